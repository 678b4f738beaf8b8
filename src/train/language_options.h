// What the training of a language model is told, and its flags.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "train/language_files.h"
#include "train/losses.h"
#include "train/run_options.h"

namespace ultraspeed::train {

enum class LanguageTask : uint8_t {
  kPretrain,  // from random weights, by cross entropy
  kQat,       // from a trained net, with experts rounded as they will be stored
};

// What learns in kQat; docs/qat.md, section 4, compares them.
enum class Trained : uint8_t { kExperts, kAllButRouters, kAll };

struct LanguageOptions : RunOptions {
  LanguageTask task = LanguageTask::kPretrain;
  std::string tokens;       // a token file
  std::string eval_tokens;  // a token file; "": no evaluation
  std::string teacher;      // of kQat: the checkpoint of the run that trained it
  std::string tokenizer;    // the folder whose tokenizer the model gets; "": none

  LanguageShape shape;  // of kQat: the teacher's
  uint32_t length = 512;
  uint32_t sequences_per_pass = 32;
  uint32_t passes_per_step = 1;         // whose gradients are added up
  double balance_rate = 0.02;           // of kPretrain, of the routers' biases; times the schedule
  Trained trained = Trained::kExperts;  // of kQat
  LossOptions loss;                     // the mix of a token's losses alone
  uint32_t chunk_rows = 8192;           // whose logits exist at once
  uint32_t eval_sequences = 64;
};

// The defaults of a task.
LanguageOptions default_options(LanguageTask task);

// Errors: kInvalidArgument for an unknown flag, a value that is none, and for what is missing. The
// shape is checked when the token file has been read.
Result<LanguageOptions> parse_language_flags(LanguageTask task,
                                             std::span<const std::string> arguments);
std::string language_flags_help(LanguageTask task);

// What two processes must agree on to be parts of one run: as flags, those of the shape first.
std::string describe_run(const LanguageOptions& options);
// The shape in such a text. Errors: kInvalidArgument for the text of another kind of run.
Result<LanguageShape> shape_of_run(const std::string& run);

}  // namespace ultraspeed::train
