# The sources of this module, for its own CMakeLists.txt and for gpu/CMakeLists.txt.
set(train_sources
  acceptance.cc block_sampler.cc drafter_files.cc drafter_reader.cc feature_folder.cc
  feature_shard.cc frozen_tables.cc json_text.cc language_files.cc mask_file.cc output_files.cc
  records.cc token_file.cc weights_file.cc)
set(train_torch_sources
  adamw.cc checkpoint.cc code_rounding.cc drafter_export.cc drafter_import.cc drafter_net.cc
  expert_layer.cc flag_list.cc fp8_rounding.cc language_export.cc language_net.cc
  language_options.cc language_trainer.cc losses.cc muon.cc mxfp4_rounding.cc net_functions.cc
  net_parameters.cc optimizers.cc run_loop.cc run_options.cc selector.cc train_model.cc trainer.cc
  trainer_flags.cc trainer_options.cc training_batch.cc)
