#include "train/train_model.h"

#include <fmt/format.h>

#include "train/language_trainer.h"
#include "train/train_program.h"

namespace ultraspeed::train {

int train_model(std::span<const std::string> arguments) {
  const std::string task = arguments.empty() ? "" : arguments[0];
  if (task != "pretrain" && task != "qat") {
    fmt::print(stderr, "train-model: '{}': expected pretrain or qat\n", task);
    return 1;
  }
  const bool is_qat = task == "qat";
  const LanguageTask kind = is_qat ? LanguageTask::kQat : LanguageTask::kPretrain;
  if (arguments.size() == 2 && arguments[1] == "--help") {
    fmt::print("{}.\n\n{}",
               is_qat ? "Trains a model on, with experts rounded to MXFP4, to predict what it did"
                      : "Trains a mixture-of-experts language model from random weights",
               language_flags_help(kind));
    return 0;
  }
  return run_trainer<LanguageTrainer>(is_qat ? "train-model qat" : "train-model pretrain",
                                      parse_language_flags(kind, arguments.subspan(1)));
}

}  // namespace ultraspeed::train
