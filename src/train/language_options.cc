#include "train/language_options.h"

#include <sstream>
#include <vector>

namespace ultraspeed::train {
namespace {

constexpr std::string_view kRunOf = "language model: ", kShapeEnd = "; ";

struct ParsedLanguage {
  LanguageOptions options;
  bool is_cuda = false;
};

void add_shape_flags(FlagList* flags, LanguageShape* s) {
  flags->number("--vocab", &s->vocab_size, "tokens; 0: those of the token file");
  flags->number("--hidden", &s->hidden_size, "hidden size");
  flags->number("--layers", &s->num_layers, "of the model");
  flags->number("--dense-layers", &s->num_dense_layers, "first layers, without experts");
  flags->number("--inner", &s->intermediate_size, "intermediate size of dense layers");
  flags->number("--experts", &s->num_experts, "of a layer");
  flags->number("--top-k", &s->num_experts_per_token, "experts of a token");
  flags->number("--expert-inner", &s->moe_intermediate_size, "intermediate size of an expert");
  flags->number("--heads", &s->num_q_heads, "query heads");
  flags->number("--kv-heads", &s->num_kv_heads, "key and value heads, a divisor of --heads");
  flags->number("--head-dim", &s->head_dim, "of queries and keys");
  flags->number("--v-head-dim", &s->v_head_dim, "of values");
  flags->number("--rotary-dim", &s->rotary_dim, "dimensions that RoPE rotates, even");
  flags->number("--window", &s->sliding_window, "tokens that a sliding layer sees");
  flags->number("--full-every", &s->full_every, "layers 0, N, 2 N, ... see all; others slide");
  flags->number("--theta", &s->rope_theta, "RoPE's base in full layers");
  flags->number("--swa-theta", &s->sliding_rope_theta, "RoPE's base in sliding layers");
  flags->number("--eos", &s->eos_token_id, "the token that ends a text");
}

// What decides the numbers of a run, beside its shape and files.
void add_run_flags(FlagList* flags, LanguageOptions* o) {
  add_optimisation_flags(flags, o);
  flags->number("--length", &o->length, "tokens of a sequence");
  flags->number("--sequences", &o->sequences_per_pass, "in a pass");
  flags->number("--passes", &o->passes_per_step, "whose gradients make a step");
  flags->number("--chunk", &o->chunk_rows, "tokens whose logits exist at once");
  if (o->task == LanguageTask::kPretrain) {
    flags->number("--balance", &o->balance_rate, "a step's change of the routers' biases");
    return;
  }
  flags->choice<Trained>("--train", &o->trained,
                         {{"experts", Trained::kExperts},
                          {"all-but-routers", Trained::kAllButRouters},
                          {"all", Trained::kAll}},
                         "what learns; the rest stays the teacher's");
  flags->number("--kl", &o->loss.kl_divergence, "share of the divergence from the teacher");
  flags->number("--ce", &o->loss.cross_entropy, "share of cross entropy with the text");
  flags->number("--tv", &o->loss.total_variation, "share of the distance to the teacher");
}

void add_language_files(FlagList* flags, LanguageOptions* o) {
  flags->text("--tokens", &o->tokens, "token file to train on");
  flags->text("--eval", &o->eval_tokens, "token file to measure on");
  if (o->task == LanguageTask::kQat) {
    flags->text("--teacher", &o->teacher, "checkpoint of the run that trained the model");
  }
  flags->text("--out", &o->output, "the model's folder, written at the end");
  flags->text("--tokenizer", &o->tokenizer, "model folder whose tokenizer files are copied");
  flags->text("--checkpoint", &o->checkpoint, "file to go on from, and to keep");
}

FlagList language_flags(ParsedLanguage* parsed) {
  FlagList flags;
  LanguageOptions* o = &parsed->options;
  add_language_files(&flags, o);
  if (o->task == LanguageTask::kPretrain) add_shape_flags(&flags, &o->shape);
  add_run_flags(&flags, o);
  add_machine_flags(&flags, o, &parsed->is_cuda);
  flags.number("--eval-sequences", &o->eval_sequences, "at most, evenly from the file");
  return flags;
}

Status check_language_options(const LanguageOptions& o) {
  if (o.tokens.empty()) return wrong_flag("--tokens is needed");
  if (o.task == LanguageTask::kQat && o.teacher.empty()) return wrong_flag("--teacher is needed");
  if (o.output.empty()) return wrong_flag("--out is needed");
  US_TRY(check_run_options(o));
  if (o.length == 0 || o.sequences_per_pass == 0 || o.passes_per_step == 0 || o.chunk_rows == 0 ||
      o.eval_sequences == 0) {
    return wrong_flag(
        "--length, --sequences, --passes, --chunk and --eval-sequences are at least 1");
  }
  const LossOptions& l = o.loss;
  if (l.cross_entropy < 0 || l.kl_divergence < 0 || l.total_variation < 0 ||
      !(l.cross_entropy + l.kl_divergence + l.total_variation > 0)) {
    return wrong_flag("--kl, --ce and --tv are not negative, and not all 0");
  }
  if (o.length > kMaxPositions) {
    return wrong_flag(fmt::format("--length is at most {}", kMaxPositions));
  }
  if (o.balance_rate < 0) return wrong_flag("--balance is not negative");
  return {};
}

}  // namespace

LanguageOptions default_options(LanguageTask task) {
  LanguageOptions options;
  options.task = task;
  options.schedule = Schedule::kLinear;
  if (task == LanguageTask::kQat) {
    options.num_steps = 1000;
    options.matrix_optimizer = MatrixOptimizer::kAdamw;
    options.learning_rate = 4e-5;
    options.muon_learning_rate = 2e-4;
    options.muon_weight_decay = 0;
    options.loss.kl_divergence = 1;
    options.loss.cross_entropy = 0;
  }
  return options;
}

Result<LanguageOptions> parse_language_flags(LanguageTask task,
                                             std::span<const std::string> arguments) {
  ParsedLanguage parsed;
  parsed.options = default_options(task);
  US_TRY(language_flags(&parsed).parse(arguments));
  US_TRY(check_language_options(parsed.options));
  if (parsed.is_cuda) parsed.options.device = torch::kCUDA;
  return std::move(parsed.options);
}

std::string language_flags_help(LanguageTask task) {
  ParsedLanguage parsed;
  parsed.options = default_options(task);
  return language_flags(&parsed).help();
}

std::string describe_run(const LanguageOptions& options) {
  LanguageOptions copy = options;
  FlagList shape, run;
  add_shape_flags(&shape, &copy.shape);
  add_run_flags(&run, &copy);
  return fmt::format("{}{}{}{} {}", kRunOf, shape.describe(), kShapeEnd,
                     options.task == LanguageTask::kQat ? "qat" : "pretrain", run.describe());
}

Result<LanguageShape> shape_of_run(const std::string& run) {
  const size_t end = run.find(kShapeEnd);
  if (!run.starts_with(kRunOf) || end == std::string::npos) {
    return wrong_flag(
        fmt::format("the run of a language model is expected, not '{}'", run.substr(0, 200)));
  }
  std::istringstream words(run.substr(kRunOf.size(), end - kRunOf.size()));
  std::vector<std::string> arguments;
  for (std::string word; words >> word;) arguments.push_back(word);
  if (!run.substr(end + kShapeEnd.size()).starts_with("pretrain ")) {
    return wrong_flag("a run of pretrain is expected; what qat trains is no teacher");
  }
  LanguageShape shape;
  FlagList flags;
  add_shape_flags(&flags, &shape);
  US_TRY(flags.parse(arguments));
  return shape;
}

}  // namespace ultraspeed::train
