# The sources of this module, for its own CMakeLists.txt and for gpu/CMakeLists.txt.
set(train_sources
  acceptance.cc block_sampler.cc drafter_files.cc drafter_reader.cc feature_folder.cc
  feature_shard.cc frozen_tables.cc mask_file.cc records.cc)
set(train_torch_sources
  adamw.cc checkpoint.cc drafter_export.cc drafter_import.cc drafter_net.cc fp8_rounding.cc
  losses.cc muon.cc selector.cc trainer.cc trainer_flags.cc trainer_options.cc training_batch.cc)
