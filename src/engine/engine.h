// The engine: one loaded model and the sessions that decode with it. Knows tokens, positions and KV
// pages; nothing of text, HTTP or JSON. One thread calls it (the engine thread of a server, or
// main).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/cache_observer.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/dense_dtype.h"
#include "model/drafter.h"
#include "plan/plan.h"
#include "program/executor.h"

namespace ultraspeed::engine {

// How a draft token becomes output.
enum class Acceptance {
  // If it equals the token that the target chooses by keyed noise: a text does not depend on the
  // drafter.
  kKeyed,
  // Rejection sampling (Leviathan, Kalman and Matias 2023): with probability min(1, p / q), its
  // probabilities under the target and under what it was drawn from. A DFlash drafter and MTP heads
  // draw; host drafters propose without chance: q = 1. A text depends on the drafter and its block;
  // its distribution does not.
  kRejection,
};

// What a session's output must keep to, a grammar for instance: a state that advances with the
// output and says which tokens may come next. A session asks its own clone, on the engine's thread.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Clears the bits of the tokens that may not follow the output so far and `drafts` after it.
  // Where none may, the session ends. `words` is a program::TokenMask of the vocabulary, with all
  // bits set. Only drafts that earlier masks allow are asked about.
  virtual void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) = 0;

  // Appends at most `limit` tokens that come next where it leaves the output no choice, or next to
  // none: drafts without a drafter.
  virtual void propose(uint32_t /*limit*/, std::vector<int32_t>* /*drafts*/) {}

  virtual void advance(int32_t token_id) = 0;  // the next token of the output
  virtual std::unique_ptr<TokenConstraint> clone() const = 0;
};

struct SamplingParams {
  float temperature = 1;  // 0: greedy
  uint32_t top_k = 0;     // 0: all
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;  // over prompt and output (divides positive logits)
  float presence_penalty = 0;    // over output
  float frequency_penalty = 0;   // over output
  std::vector<std::pair<int32_t, float>> logit_bias;
  const TokenConstraint* constraint = nullptr;  // before the first token; start() copies it
  uint64_t seed = 0;
  Acceptance acceptance = Acceptance::kKeyed;
  uint32_t num_logprobs = 0;  // most likely tokens to report with each token
};

struct GenerationParams {
  SamplingParams sampling;
  uint32_t max_tokens = 0;        // of output; 0: up to the context's end
  std::vector<int32_t> stop_ids;  // the stop token is part of the output
  // Report the prompt's tokens, too, with so many alternatives each. A session that is forked from
  // another one reports none.
  std::optional<uint32_t> num_prompt_logprobs;
  bool ignore_eos = false;  // true: stop_ids do not stop
  bool speculates = true;   // false: a step gives one token, whatever the drafter
  // The output, where it is known beforehand; only DrafterKind::kReplay looks at it.
  std::vector<int32_t> expected_output;
  // Whose text it is: only prompts of one domain take over what the caches hold of each other.
  std::string cache_domain = {};
};

enum class FinishReason {
  kStop,
  kLength,      // max_tokens, the context is full, or all KV pages are not enough for it alone
  kConstraint,  // the constraint allows no token after the output so far
};

using SessionId = uint64_t;

struct Token {
  int32_t id = 0;
  float logprob = 0;  // raw log-softmax, before penalties and temperature
  std::vector<std::pair<int32_t, float>> top_logprobs;  // raw, descending, num_logprobs of them
};

// One session's part of a decode step: its newest token and the drafts after it, verified together.
struct VerifyCycle {
  uint32_t num_drafts = 0;
  uint32_t num_accepted = 0;  // drafts that became output
  uint32_t num_tokens = 0;   // of output: the accepted drafts and, unless cut off, the target's own
  bool is_resident = false;  // a kernel that stays on the device has run it, without a launch
};

// What one step did for one session, in the order it happened: an event a token.
struct StepEvent {
  SessionId session = 0;
  uint32_t prompt_tokens_done = 0;    // prefill progress: prompt tokens in the cache so far
  uint32_t prompt_tokens_cached = 0;  // those that other texts had left there
  // With GenerationParams::num_prompt_logprobs: those that this step computed, in order, the first
  // of the prompt without a logprob (0).
  std::vector<Token> prompt_tokens = {};
  std::optional<Token> token;            // the next token of the output
  std::optional<FinishReason> finished;  // the session has ended and its id is no longer valid
  std::optional<VerifyCycle> cycle;      // with the first token of a decode step
};

// Pages of the caches of the layers with full attention; all 0 where the model has none.
struct KvUsage {
  uint32_t num_pages = 0;
  uint32_t num_used = 0;  // by sessions
  uint32_t page_positions = 0;
  uint32_t num_cached = 0;       // by cached prefixes alone; they go when sessions want them
  uint64_t num_preemptions = 0;  // sessions whose pages others took, since the engine was opened
};

// Where the time of decode steps went since the engine was opened.
struct DecodeTimes {
  uint64_t num_steps = 0;
  double draft_s = 0;   // proposing: on the host, or in the program's draft part or MTP heads
  double verify_s = 0;  // the rest of the program
  double other_s = 0;   // columns and pages before it, tokens and events after it

  double total_s() const { return draft_s + verify_s + other_s; }
};

enum class DrafterKind {
  kNone,
  kSuffix,  // what followed when the text's last tokens occurred before
  kRandom,  // random ids: the worst case
  kReplay,  // GenerationParams::expected_output, spoilt after a fixed number: for measurements
  kDflash,  // a network that the decode program runs before it verifies: EngineOptions::dflash
  kMtp,     // the target's multi-token-prediction heads, run after each step for the next one
};

// The drafter that a session with these parameters has in an engine of this kind. Repetition,
// presence and frequency penalties and constraints change with every token of a block, so the host
// must know the drafts before the step: with them kSuffix stands in for kDflash. What a constraint
// proposes goes before what the drafter does.
DrafterKind session_drafter(DrafterKind kind, const SamplingParams& params);

struct DrafterOptions {
  DrafterKind kind = DrafterKind::kNone;
  uint32_t tokens_per_cycle = 1;  // of kReplay: 1 to block_size
};

// bytes_done of bytes_total weights are loaded.
using LoadProgress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

// Packed weights on disk (docs/loading.md).
struct WeightCacheOptions {
  std::string directory;       // empty: none
  bool reads_all = false;      // of the checkpoint, even if its files look as they did
  LoadProgress progress = {};  // of reading the checkpoint's files
  std::function<void(std::string_view)> report = {};  // a sentence on what was used or wrong
};

struct EngineOptions {
  uint32_t max_context = 0;  // tokens of a session, prompt and output; 0: the model's, at most 8192
  uint32_t max_sessions = 8;
  uint32_t num_kv_pages = 0;  // 0: enough for max_sessions sessions of max_context
  // Texts of which the caches keep what they hold when their sessions have ended, for prompts that
  // begin alike. Each takes a ring in every sliding layer, as a session does, and the pages that no
  // session wants. 0: none are kept.
  uint32_t num_cached_prefixes = 0;
  uint32_t decode_width = 8;  // columns of the decode program
  // Columns of the prefill program; 0: as many as suit the executor, 64 where memory has no room.
  uint32_t prefill_width = 0;
  uint32_t num_ranks = 1;  // tensor parallel: 1, 2, 4 or 8
  plan::AllReduce all_reduce = plan::AllReduce::kTwoShot;
  DrafterOptions drafter = {};
  // Columns of a drafting session in a decode step: 1 to decode_width, of kMtp at most one more
  // than the checkpoint has MTP layers.
  uint32_t block_size = 8;
  const model::Drafter* dflash = nullptr;  // of kDflash; must outlive Engine::open alone
  // A decode program without drafts beside the one of kDflash, for steps in which no session has
  // any: they take as long as without a drafter, but for what keeps its context.
  bool has_plain_decode = false;
  WeightCacheOptions weight_cache = {};
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;  // of the target
  // Layers whose residuals features() gives, ascending; empty: it gives none.
  std::vector<uint32_t> captured_layers = {};
  // Whether it gives the residuals that layers of experts read, before their norm.
  bool captures_expert_inputs = false;
  // Told what dense_dtype cost once all weights are loaded, if it changed any; may be empty.
  std::function<void(const model::DenseError&)> on_dense_error = {};
};

// Of positions [begin, begin + count) of a text, f32 [count, hidden_size] each: the residuals that
// EngineOptions asks for in the order of the step; with captured layers, the last layer's, before
// the final norm, comes behind them.
using ResidualSink = std::function<Status(uint32_t begin, uint32_t count,
                                          std::span<const std::span<const float>> residuals)>;

class Engine {
 public:
  // Plans the programs for the executor's device, verifies them and loads the weights, a DFlash
  // drafter's or, of kMtp, the MTP layers' among them.
  // REQUIRES: options.dflash is set if and only if the drafter is kDflash.
  static Result<std::unique_ptr<Engine>> open(const model::ModelConfig& config,
                                              const model::Checkpoint& checkpoint,
                                              std::unique_ptr<program::Executor> executor,
                                              const program::DeviceLimits& limits,
                                              const EngineOptions& options,
                                              const LoadProgress& progress);
  virtual ~Engine() = default;

  // Admits a session; its prompt is prefilled and its tokens generated by later step() calls. What
  // the caches hold of its beginning is taken over, but for the last token.
  // Errors: kInvalidArgument (empty prompt, token id out of range, prompt that fills the context or
  // can never have enough KV pages, parameter out of range; the sentence names it), kOutOfMemory
  // (no session or KV page is free, or sessions wait for pages that others took).
  virtual Result<SessionId> start(std::span<const int32_t> prompt,
                                  const GenerationParams& params) = 0;

  // A session with the prompt and parameters of `session` but another seed: n samples of one prompt
  // are one prefill and n - 1 forks, each with a seed made from its index. Its text is that of a
  // session started with this seed. The keys and values of the prompt, as far as the caches still
  // hold them, are shared or copied, not computed again.
  // Errors: kNotFound (no such session), kOutOfMemory as start().
  virtual Result<SessionId> fork(SessionId session, uint64_t seed) = 0;

  // Runs one program step: a prefill chunk of one session, or one decode step of all that are past
  // their prompt (more of them than columns take turns); the two alternate while both are wanted.
  // In a decode step the drafter proposes tokens for the columns that are left, and a session gets
  // one token more for every draft that the target agrees with.
  // Appends what happened to `events`. A session that finds no free KV page takes those of cached
  // prefixes, then all of the session that came last, which waits and is computed again, with the
  // same text; only where that does not help it ends, with kLength. One whose constraint allows no
  // further token ends with kConstraint. Neither event has a token.
  // Errors: what the executor reports. All sessions have ended then, without events; the engine
  // takes new ones, except after kInternal, which start, step and score return from then on.
  virtual Status step(std::vector<StepEvent>* events) = 0;

  // Ends a session early (a client that hung up). Unknown ids are ignored.
  virtual void cancel(SessionId session) = 0;

  virtual bool idle() const = 0;  // no session is active

  // logprobs[i] = log p(tokens[i + 1] | tokens[0..i]); tokens.size() - 1 of them. Runs alone: no
  // other session may be active. `progress` gets the number of tokens done, of tokens.size() - 1.
  // Errors: kInvalidArgument (a session is active, no tokens, more than max_context() tokens, token
  // id out of range), else as step().
  virtual Result<std::vector<float>> score(std::span<const int32_t> tokens,
                                           const std::function<void(uint32_t)>& progress) = 0;

  // Hands on what the target computes for a text, position by position. Runs alone. Errors: those
  // of score() and of the sink; kUnsupported without captured layers, or by executors that give
  // none.
  virtual Status features(std::span<const int32_t> /*tokens*/, const ResidualSink& /*sink*/) {
    return make_error(ErrorCode::kUnsupported, "this engine captures no residuals");
  }

  // Zeros from an engine that does not measure.
  virtual DecodeTimes decode_times() const { return {}; }

  // Zeros from an engine without pages.
  virtual KvUsage kv_usage() const { return {}; }

  // Has the observer, which must outlive the engine, told at each step's end what has changed in
  // the pages' blocks since it was last told. An engine whose caches have no pages, or that keeps
  // nothing of ended texts, tells nothing. REQUIRES: no session yet.
  virtual void observe_caches(CacheObserver* /*observer*/) {}

  virtual uint32_t max_context() const = 0;
  virtual std::string_view device() const = 0;  // what it runs on, DeviceLimits::name
  virtual const std::vector<program::Program>& programs() const = 0;
};

}  // namespace ultraspeed::engine
