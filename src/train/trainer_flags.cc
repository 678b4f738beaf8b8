#include "train/trainer_flags.h"

#include <string>
#include <utility>

#include "train/feature_shard.h"
#include "train/flag_list.h"
#include "train/train_program.h"
#include "train/trainer.h"

namespace ultraspeed::train {
namespace {

constexpr uint32_t kMaxBlock = 64;  // the rows of a verifying step

// What a run is told beside TrainerOptions' own fields.
struct Parsed {
  TrainerOptions options;
  uint32_t window = 128;
  bool has_selector = false;
  uint32_t selector_rank = 32;
  bool is_cuda = false;
};

void add_file_flags(FlagList* flags, TrainerOptions* o) {
  flags->text("--features", &o->features, "folder of shards to train on");
  flags->text("--eval", &o->eval_features, "folder of shards to measure the accepted length on");
  flags->text("--tables", &o->tables, "the target's embedding and head");
  flags->text("--out", &o->output, "the drafter's folder, written at the end");
  flags->text("--checkpoint", &o->checkpoint, "file to go on from, and to keep");
  flags->text("--warm-start", &o->warm_start,
              "a drafter's folder whose weights the net begins with");
}

void set_drafter_defaults(model::DrafterConfig* d) {
  d->file = "the drafter";
  d->num_layers = 3;
  d->intermediate_size = 512;
  d->num_q_heads = 8;
  d->num_kv_heads = 2;
  d->head_dim = d->v_head_dim = 64;
  d->rotary_dim = 32;
  d->rope_theta = 10000;
  d->rms_norm_eps = 1e-5F;
  d->block_size = 8;
  d->mask_token_id = 9;
  d->has_sink = true;
}

void add_drafter_flags(FlagList* flags, Parsed* parsed) {
  model::DrafterConfig* d = &parsed->options.drafter;
  set_drafter_defaults(d);
  flags->list("--taps", &parsed->options.taps, "of the target's layers, among the features' (all)");
  flags->number("--layers", &d->num_layers, "of the drafter");
  flags->number("--inner", &d->intermediate_size, "intermediate size");
  flags->number("--heads", &d->num_q_heads, "query heads");
  flags->number("--kv-heads", &d->num_kv_heads, "key and value heads, a divisor of --heads");
  flags->number("--head-dim", &d->head_dim, "of queries and keys");
  flags->number("--v-head-dim", &d->v_head_dim, "of values");
  flags->number("--rotary-dim", &d->rotary_dim, "dimensions that RoPE rotates, even");
  flags->number("--theta", &d->rope_theta, "RoPE's base");
  flags->number("--eps", &d->rms_norm_eps, "of the norms");
  flags->number("--value-scale", &d->attention_value_scale, "of the values");
  flags->choice<bool>("--sinks", &d->has_sink, {{"on", true}, {"off", false}},
                      "a sink a query head");
  flags->number("--window", &parsed->window, "positions before the anchor; 0: all");
  flags->number("--block", &d->block_size, "the anchor and its masks");
  flags->number("--mask-token", &d->mask_token_id, "whose embedding is trained");
  flags->choice<LinearFormat>("--format", &parsed->options.format,
                              {{"bf16", LinearFormat::kBf16}, {"fp8", LinearFormat::kFp8}},
                              "of the written matrices");
  flags->number("--fp8-from", &parsed->options.fp8_from, "share of steps before FP8 rounding acts");
}

void add_selector_flags(FlagList* flags, Parsed* parsed) {
  flags->choice<bool>("--selector", &parsed->has_selector, {{"on", true}, {"off", false}},
                      "chooses drafts by the token before");
  flags->number("--selector-rank", &parsed->selector_rank, "of its matrices");
  flags->number("--candidates", &parsed->options.drafter.selector.num_candidates,
                "of a row, its likeliest tokens");
  flags->number("--selector-loss", &parsed->options.loss.selection, "share of its cross entropy");
  flags->choice<bool>("--train", &parsed->options.trains_selector_alone,
                      {{"all", false}, {"selector", true}}, "the selector alone: the rest stays");
}

void add_loss_flags(FlagList* flags, LossOptions* l) {
  flags->choice<Weighting>(
      "--weights", &l->weighting,
      {{"dpace", Weighting::kDpace}, {"decay", Weighting::kDecay}, {"auf", Weighting::kAuf}},
      "of a block's masks");
  flags->number("--gamma", &l->gamma, "of decay");
  flags->number("--alpha", &l->dpace_alpha, "of dpace");
  flags->number("--ce", &l->cross_entropy, "share of cross entropy with the text");
  flags->number("--tv", &l->total_variation, "share of the distance to the target's distribution");
  flags->number("--kl", &l->kl_divergence, "share of the divergence from it");
  flags->number("--chunk", &l->chunk_blocks, "blocks whose logits exist at once");
}

// Writes to `parsed`, whose values so far become the defaults.
FlagList flags_of(Parsed* parsed) {
  FlagList flags;
  TrainerOptions* o = &parsed->options;
  add_file_flags(&flags, o);
  add_drafter_flags(&flags, parsed);
  add_selector_flags(&flags, parsed);
  add_optimisation_flags(&flags, o);
  flags.number("--texts", &o->sequences_per_pass, "in a pass");
  flags.number("--passes", &o->passes_per_step, "whose gradients make a step");
  flags.number("--blocks", &o->blocks_per_sequence, "drawn from a text");
  add_loss_flags(&flags, &o->loss);
  add_machine_flags(&flags, o, &parsed->is_cuda);
  flags.number("--eval-texts", &o->eval_sequences, "at most");
  return flags;
}

Status set_selector(const Parsed& parsed, TrainerOptions* options) {
  model::DrafterConfig::Selector& selector = options->drafter.selector;
  if (!parsed.has_selector) {
    if (options->trains_selector_alone) return wrong_flag("--train selector needs --selector on");
    return {};
  }
  if (parsed.selector_rank < 1 || parsed.selector_rank > model::kMaxSelectorRank ||
      selector.num_candidates < 2 || selector.num_candidates > model::kMaxSelectorCandidates) {
    return wrong_flag(fmt::format("--selector-rank is 1 to {}, --candidates 2 to {}",
                                  model::kMaxSelectorRank, model::kMaxSelectorCandidates));
  }
  if (!(options->loss.selection >= 0)) return wrong_flag("--selector-loss is not negative");
  selector.rank = parsed.selector_rank;
  return {};
}

Status check_drafter(const model::DrafterConfig& d) {
  if (d.num_layers == 0 || d.intermediate_size == 0 || d.num_q_heads == 0 || d.num_kv_heads == 0 ||
      d.num_q_heads % d.num_kv_heads != 0 || d.v_head_dim == 0) {
    return wrong_flag(
        "--layers, --inner, --heads, --kv-heads and --v-head-dim are at least 1, and "
        "--kv-heads divides --heads");
  }
  if (d.rotary_dim == 0 || d.rotary_dim % 2 != 0 || d.rotary_dim > d.head_dim) {
    return wrong_flag("--rotary-dim is even, at least 2 and at most --head-dim");
  }
  if (d.block_size < 2 || d.block_size > kMaxBlock) {
    return wrong_flag(fmt::format("--block is 2 to {}", kMaxBlock));
  }
  if (!(d.rope_theta > 0) || !(d.rms_norm_eps > 0) || !(d.attention_value_scale > 0)) {
    return wrong_flag("--theta, --eps and --value-scale are above 0");
  }
  return {};
}

Status check_run(const TrainerOptions& o) {
  for (const auto& [flag, value] :
       {std::pair<const char*, const std::string&>{"--features", o.features},
        {"--tables", o.tables},
        {"--out", o.output}}) {
    if (value.empty()) return wrong_flag(fmt::format("{} is needed", flag));
  }
  US_TRY(check_run_options(o));
  if (!(o.fp8_from >= 0 && o.fp8_from <= 1)) return wrong_flag("--fp8-from lies in [0, 1]");
  if (o.eval_sequences < 1) return wrong_flag("--eval-texts is at least 1");
  if (o.loss.chunk_blocks < 1) return wrong_flag("--chunk is at least 1");
  if (!(o.loss.gamma > 0)) return wrong_flag("--gamma is above 0");
  if (o.loss.dpace_alpha < 0 || o.loss.dpace_alpha > 1) return wrong_flag("--alpha lies in [0, 1]");
  if (o.loss.cross_entropy < 0 || o.loss.total_variation < 0 || o.loss.kl_divergence < 0) {
    return wrong_flag("--ce, --tv and --kl are not negative");
  }
  return {};
}

}  // namespace

Result<TrainerOptions> parse_trainer_flags(std::span<const std::string> arguments) {
  Parsed parsed;
  US_TRY(flags_of(&parsed).parse(arguments));
  model::DrafterConfig& drafter = parsed.options.drafter;
  US_TRY(check_drafter(drafter));
  if (parsed.window > kMaxSequenceTokens) {
    return wrong_flag(fmt::format("--window is at most {}; 0: all", kMaxSequenceTokens));
  }
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
  return flags_of(&parsed).help();
}

int train_drafter(std::span<const std::string> arguments) {
  if (arguments.size() == 1 && arguments[0] == "--help") {
    fmt::print("Trains a DFlash drafter from features of its target.\n\n{}", trainer_flags_help());
    return 0;
  }
  return run_trainer<Trainer>("train-drafter", parse_trainer_flags(arguments));
}

}  // namespace ultraspeed::train
