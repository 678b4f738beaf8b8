#include "train/trainer_flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "train/trainer.h"

namespace ultraspeed::train {
namespace {

// False for a text that is no value of the flag.
using Setter = std::function<bool(const std::string&)>;

struct Flag {
  std::string name, value, purpose, initial;
  Setter set;
};

bool read_number(const std::string& text, double* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(*out);
}

template <class Integer>
bool read_number(const std::string& text, Integer* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

template <class Value>
using Choices = std::vector<std::pair<std::string, Value>>;

enum class SelectorKind : uint8_t { kNone, kTied, kCodebooks };

// What a run is told beside TrainerOptions' own fields.
struct Parsed {
  TrainerOptions options;
  uint32_t window = 128;
  SelectorKind selector = SelectorKind::kNone;
  uint32_t selector_rank = 32;
  bool is_cuda = false;
};

class FlagList {
 public:
  explicit FlagList(Parsed* parsed) : parsed_(parsed) {
    files();
    drafter();
    selector();
    optimisation();
    losses();
    reporting();
  }

  const std::vector<Flag>& flags() const { return flags_; }

 private:
  void files() {
    TrainerOptions& o = parsed_->options;
    text("--features", &o.features, "folder of shards to train on");
    text("--eval", &o.eval_features, "folder of shards to measure the accepted length on");
    text("--tables", &o.tables, "the target's embedding and head");
    text("--out", &o.output, "the drafter's folder, written at the end");
    text("--checkpoint", &o.checkpoint, "file to go on from, and to keep");
    text("--warm-start", &o.warm_start, "a drafter's folder whose weights the net begins with");
  }

  void drafter() {
    model::DrafterConfig& d = parsed_->options.drafter;
    d.file = "the drafter";
    d.num_layers = 3;
    d.intermediate_size = 512;
    d.num_q_heads = 8;
    d.num_kv_heads = 2;
    d.head_dim = d.v_head_dim = 64;
    d.rotary_dim = 32;
    d.rope_theta = 10000;
    d.rms_norm_eps = 1e-5F;
    d.block_size = 8;
    d.mask_token_id = 9;
    d.has_sink = true;
    list("--taps", &parsed_->options.taps, "of the target's layers, among the features' (all)");
    number("--layers", &d.num_layers, "of the drafter");
    number("--inner", &d.intermediate_size, "intermediate size");
    number("--heads", &d.num_q_heads, "query heads");
    number("--kv-heads", &d.num_kv_heads, "key and value heads, a divisor of --heads");
    number("--head-dim", &d.head_dim, "of queries and keys");
    number("--v-head-dim", &d.v_head_dim, "of values");
    number("--rotary-dim", &d.rotary_dim, "dimensions that RoPE rotates, even");
    real("--theta", &d.rope_theta, "RoPE's base");
    real("--eps", &d.rms_norm_eps, "of the norms");
    real("--value-scale", &d.attention_value_scale, "of the values");
    choice<bool>("--sinks", &d.has_sink, {{"on", true}, {"off", false}}, "a sink a query head");
    number("--window", &parsed_->window, "positions before the anchor; 0: all");
    number("--block", &d.block_size, "the anchor and its masks");
    number("--mask-token", &d.mask_token_id, "whose embedding is trained");
    choice<LinearFormat>("--format", &parsed_->options.format,
                         {{"bf16", LinearFormat::kBf16}, {"fp8", LinearFormat::kFp8}},
                         "of the written matrices");
    number("--fp8-from", &parsed_->options.fp8_from, "share of steps before FP8 rounding acts");
  }

  void selector() {
    model::DrafterConfig::Selector& s = parsed_->options.drafter.selector;
    choice<SelectorKind>("--selector", &parsed_->selector,
                         {{"none", SelectorKind::kNone},
                          {"tied", SelectorKind::kTied},
                          {"codebooks", SelectorKind::kCodebooks}},
                         "chooses drafts; codebooks: to compare with");
    number("--selector-rank", &parsed_->selector_rank, "of its matrices");
    choice<tensor::SelectorForm>("--selector-form", &s.form,
                                 {{"product", tensor::SelectorForm::kProduct},
                                  {"gate", tensor::SelectorForm::kGate},
                                  {"silu", tensor::SelectorForm::kSilu}},
                                 "how the token before and the row are joined");
    number("--candidates", &s.num_candidates, "of a row, its likeliest tokens");
    number("--selector-loss", &parsed_->options.loss.selection, "share of its cross entropy");
    choice<bool>("--train", &parsed_->options.trains_selector_alone,
                 {{"all", false}, {"selector", true}}, "the selector alone: the rest stays");
  }

  void optimisation() {
    TrainerOptions& o = parsed_->options;
    choice<bool>("--device", &parsed_->is_cuda, {{"cpu", false}, {"cuda", true}}, "to train on");
    choice<torch::Dtype>("--compute", &o.compute,
                         {{"f32", torch::kFloat32}, {"bf16", torch::kBFloat16}},
                         "type of matrix products; masters are f32");
    number("--seed", &o.seed, "of weights, order and anchors");
    number("--steps", &o.num_steps, "of the whole run");
    number("--minutes", &o.minutes, "after which this process stops; 0: none");
    number("--texts", &o.sequences_per_pass, "in a pass");
    number("--passes", &o.passes_per_step, "whose gradients make a step");
    number("--blocks", &o.blocks_per_sequence, "drawn from a text");
    number("--lr", &o.learning_rate, "AdamW's, for norms, sinks and the mask embedding");
    number("--muon-lr", &o.muon_learning_rate, "Muon's, for matrices");
    number("--muon-decay", &o.muon_weight_decay, "Muon's weight decay");
    choice<MuonScale>("--muon-scale", &o.muon_scale,
                      {{"adamw", MuonScale::kMatchRmsAdamw}, {"original", MuonScale::kOriginal}},
                      "of updates");
    number("--warmup", &o.warmup, "share of steps with a growing rate");
    choice<Schedule>("--schedule", &o.schedule,
                     {{"cosine", Schedule::kCosine}, {"linear", Schedule::kLinear}},
                     "of the rate, to zero");
    number("--clip", &o.clip_norm, "largest norm of a step's gradient");
  }

  void losses() {
    LossOptions& l = parsed_->options.loss;
    choice<Weighting>(
        "--weights", &l.weighting,
        {{"dpace", Weighting::kDpace}, {"decay", Weighting::kDecay}, {"auf", Weighting::kAuf}},
        "of a block's masks");
    number("--gamma", &l.gamma, "of decay");
    number("--alpha", &l.dpace_alpha, "of dpace");
    number("--ce", &l.cross_entropy, "share of cross entropy with the text");
    number("--tv", &l.total_variation, "share of the distance to the target's distribution");
    number("--kl", &l.kl_divergence, "share of the divergence from it");
    number("--chunk", &l.chunk_blocks, "blocks whose logits exist at once");
  }

  void reporting() {
    TrainerOptions& o = parsed_->options;
    number("--log-every", &o.log_every, "steps");
    number("--eval-every", &o.eval_every, "steps");
    number("--eval-texts", &o.eval_sequences, "at most");
    number("--checkpoint-every", &o.checkpoint_every, "steps");
  }

  void text(const char* name, std::string* out, const char* purpose) {
    flags_.push_back({name, "PATH", purpose, *out, [out](const std::string& value) {
                        *out = value;
                        return !value.empty();
                      }});
  }

  // Ascending numbers with commas between.
  void list(const char* name, std::vector<uint32_t>* out, const char* purpose) {
    flags_.push_back({name, "N,N,...", purpose, "", [out](const std::string& value) {
                        out->clear();
                        for (size_t at = 0; at <= value.size();) {
                          const size_t end = std::min(value.find(',', at), value.size());
                          uint32_t number = 0;
                          if (!read_number(value.substr(at, end - at), &number)) return false;
                          if (!out->empty() && number <= out->back()) return false;
                          out->push_back(number);
                          at = end + 1;
                        }
                        return true;
                      }});
  }

  template <class Value>
  void number(const char* name, Value* out, const char* purpose) {
    flags_.push_back({name, "N", purpose, fmt::format("{}", *out),
                      [out](const std::string& value) { return read_number(value, out); }});
  }

  void real(const char* name, float* out, const char* purpose) {
    flags_.push_back({name, "N", purpose, fmt::format("{}", *out), [out](const std::string& value) {
                        double number = 0;
                        const bool is_number = read_number(value, &number);
                        *out = static_cast<float>(number);
                        return is_number && std::isfinite(*out);
                      }});
  }

  template <class Value>
  void choice(const char* name, Value* out, Choices<Value> choices, const char* purpose) {
    std::string names, initial;
    for (const auto& [key, value] : choices) {
      names += (names.empty() ? "" : "|") + key;
      if (value == *out) initial = key;
    }
    flags_.push_back({name, names, purpose, initial, [out, choices](const std::string& text) {
                        for (const auto& [key, value] : choices) {
                          if (key != text) continue;
                          *out = value;
                          return true;
                        }
                        return false;
                      }});
  }

  Parsed* parsed_;
  std::vector<Flag> flags_;
};

tl::unexpected<Error> wrong(const std::string& what) {
  return make_error(ErrorCode::kInvalidArgument, "{}", what);
}

Status check_drafter(const model::DrafterConfig& d) {
  if (d.num_layers == 0 || d.intermediate_size == 0 || d.num_q_heads == 0 || d.num_kv_heads == 0 ||
      d.num_q_heads % d.num_kv_heads != 0 || d.v_head_dim == 0) {
    return wrong(
        "--layers, --inner, --heads, --kv-heads and --v-head-dim are at least 1, and "
        "--kv-heads divides --heads");
  }
  if (d.rotary_dim == 0 || d.rotary_dim % 2 != 0 || d.rotary_dim > d.head_dim) {
    return wrong("--rotary-dim is even, at least 2 and at most --head-dim");
  }
  if (d.block_size < 2) return wrong("--block is at least 2");
  if (!(d.rope_theta > 0) || !(d.rms_norm_eps > 0) || !(d.attention_value_scale > 0)) {
    return wrong("--theta, --eps and --value-scale are above 0");
  }
  return {};
}

Status set_selector(const Parsed& parsed, TrainerOptions* options) {
  model::DrafterConfig::Selector& selector = options->drafter.selector;
  options->has_codebooks = parsed.selector == SelectorKind::kCodebooks;
  if (parsed.selector == SelectorKind::kNone) {
    if (options->trains_selector_alone) return wrong("--train selector needs a --selector");
    return {};
  }
  if (parsed.selector_rank < 1 || parsed.selector_rank > model::kMaxSelectorRank ||
      selector.num_candidates < 2 || selector.num_candidates > model::kMaxSelectorCandidates) {
    return wrong(fmt::format("--selector-rank is 1 to {}, --candidates 2 to {}",
                             model::kMaxSelectorRank, model::kMaxSelectorCandidates));
  }
  if (!(options->loss.selection >= 0)) return wrong("--selector-loss is not negative");
  selector.rank = parsed.selector_rank;
  return {};
}

Status check_run(const TrainerOptions& o) {
  for (const auto& [flag, value] :
       {std::pair<const char*, const std::string&>{"--features", o.features},
        {"--tables", o.tables},
        {"--out", o.output}}) {
    if (value.empty()) return wrong(fmt::format("{} is needed", flag));
  }
  if (o.log_every == 0 || o.eval_every == 0 || o.checkpoint_every == 0 || o.loss.chunk_blocks < 1) {
    return wrong("--log-every, --eval-every, --checkpoint-every and --chunk are at least 1");
  }
  if (!(o.learning_rate > 0) || !(o.muon_learning_rate > 0) || !(o.clip_norm > 0) ||
      !(o.loss.gamma > 0)) {
    return wrong("--lr, --muon-lr, --clip and --gamma are above 0");
  }
  if (o.warmup < 0 || o.warmup > 1 || o.loss.dpace_alpha < 0 || o.loss.dpace_alpha > 1) {
    return wrong("--warmup and --alpha lie in [0, 1]");
  }
  if (o.minutes < 0 || o.muon_weight_decay < 0 || o.loss.cross_entropy < 0 ||
      o.loss.total_variation < 0 || o.loss.kl_divergence < 0) {
    return wrong("--minutes, --muon-decay, --ce, --tv and --kl are not negative");
  }
  return {};
}

}  // namespace

Result<TrainerOptions> parse_trainer_flags(std::span<const std::string> arguments) {
  Parsed parsed;
  const FlagList list(&parsed);
  for (size_t i = 0; i < arguments.size(); i += 2) {
    const auto flag = std::find_if(list.flags().begin(), list.flags().end(),
                                   [&](const Flag& f) { return f.name == arguments[i]; });
    if (flag == list.flags().end()) return wrong("unknown flag '" + arguments[i] + "'; see --help");
    if (i + 1 == arguments.size()) return wrong(flag->name + " needs a value");
    if (!flag->set(arguments[i + 1])) {
      return wrong(fmt::format("{} '{}': expected {}", flag->name, arguments[i + 1], flag->value));
    }
  }
  model::DrafterConfig& drafter = parsed.options.drafter;
  US_TRY(check_drafter(drafter));
  US_TRY(set_selector(parsed, &parsed.options));
  US_TRY(check_run(parsed.options));
  drafter.sliding_window = parsed.window;
  drafter.has_window_before_anchor = parsed.window != 0;
  drafter.layers.assign(drafter.num_layers, {parsed.window, false});
  if (parsed.is_cuda) parsed.options.device = torch::kCUDA;
  return std::move(parsed.options);
}

std::string trainer_flags_help() {
  Parsed parsed;
  std::string help;
  const FlagList list(&parsed);
  for (const Flag& flag : list.flags()) {
    help += fmt::format("  {:<32} {}{}\n", flag.name + " " + flag.value, flag.purpose,
                        flag.initial.empty() ? "" : " (" + flag.initial + ")");
  }
  return help;
}

int train_drafter(std::span<const std::string> arguments) {
  if (arguments.size() == 1 && arguments[0] == "--help") {
    fmt::print("Trains a DFlash drafter from features of its target.\n\n{}", trainer_flags_help());
    return 0;
  }
  const auto print = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  const auto fail = [](const Error& error) {
    fmt::print(stderr, "train-drafter: {}\n", error.message);
    return 1;
  };
  const Result<TrainerOptions> options = parse_trainer_flags(arguments);
  if (!options) return fail(options.error());
  const auto trainer = Trainer::open(*options, print);
  if (!trainer) return fail(trainer.error());
  const Result<bool> is_complete = (*trainer)->run();
  return is_complete ? 0 : fail(is_complete.error());
}

}  // namespace ultraspeed::train
