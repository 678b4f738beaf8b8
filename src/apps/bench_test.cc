// The bench without a model: passes over a scripted engine, medians, tables, JSON and the picture.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/bench_result.h"
#include "apps/svg.h"

namespace ultraspeed::apps {
namespace {

// Prefills a session in one step, alone; then every step gives each session two tokens, the second
// an accepted draft, until max_tokens. A step's parts take 1, 2 and 5 s, and 100 s a session more.
class ScriptedEngine final : public engine::Engine {
 public:
  int32_t offset = 0;  // of all tokens but a text's first two

  Result<engine::SessionId> start(std::span<const int32_t> prompt,
                                  const engine::GenerationParams& params) override {
    params_ = params;
    most_sessions = std::max(most_sessions, sessions_.size() + 1);
    sessions_[++last_].push_back(prompt.front());
    return last_;
  }
  Result<engine::SessionId> fork(engine::SessionId, uint64_t) override {
    return make_error(ErrorCode::kUnsupported, "no forks");
  }
  Status step(std::vector<engine::StepEvent>* events) override {
    for (auto& [id, tokens] : sessions_) {
      if (tokens.size() > 1) continue;
      give(id, tokens, false, events);
      return {};
    }
    ++times_.num_steps;
    times_.draft_s += 1;
    times_.verify_s += 2 + 100 * static_cast<double>(sessions_.size() - 1);
    times_.other_s += 5;
    std::vector<engine::SessionId> ended;
    for (auto& [id, tokens] : sessions_) {
      if (give(id, tokens, true, events)) ended.push_back(id);
    }
    for (const engine::SessionId id : ended) sessions_.erase(id);
    return {};
  }
  void cancel(engine::SessionId session) override { sessions_.erase(session); }
  bool idle() const override { return sessions_.empty(); }
  Result<std::vector<float>> score(std::span<const int32_t>,
                                   const std::function<void(uint32_t)>&) override {
    return make_error(ErrorCode::kUnsupported, "no scores");
  }
  engine::DecodeTimes decode_times() const override { return times_; }
  uint32_t max_context() const override { return 100; }
  std::string_view device() const override { return "none"; }
  const std::vector<program::Program>& programs() const override { return programs_; }

  size_t most_sessions = 0;

 private:
  // A text of prompt p: p + 1, p + 2, ...
  bool give(engine::SessionId id, std::vector<int32_t>& tokens, bool is_cycle,
            std::vector<engine::StepEvent>* events) {
    const size_t first = events->size();
    const size_t count = is_cycle ? std::min<size_t>(2, params_.max_tokens + 1 - tokens.size()) : 1;
    for (size_t i = 0; i < count; ++i) {
      const int32_t shift = tokens.size() > 2 ? offset : 0;
      tokens.push_back(tokens.front() + static_cast<int32_t>(tokens.size()) + shift);
      engine::StepEvent& event = events->emplace_back();
      event.session = id;
      event.token = engine::Token{tokens.back(), 0, {}};
    }
    const auto num_tokens = static_cast<uint32_t>(count);
    if (is_cycle) (*events)[first].cycle = engine::VerifyCycle{1, 1, num_tokens};
    const bool is_over = tokens.size() > params_.max_tokens;
    if (is_over) events->back().finished = engine::FinishReason::kLength;
    return is_over;
  }

  engine::GenerationParams params_;
  engine::DecodeTimes times_;
  engine::SessionId last_ = 0;
  std::map<engine::SessionId, std::vector<int32_t>> sessions_;  // the prompt's first, then output
  std::vector<program::Program> programs_;
};

std::vector<BenchPrompt> prompts_of(size_t count) {
  std::vector<BenchPrompt> prompts;
  for (size_t i = 0; i < count; ++i) {
    prompts.push_back({"p" + std::to_string(i), {static_cast<int32_t>(10 * (i + 1))}, {}});
  }
  return prompts;
}

DecodeOptions options_of(uint32_t streams, uint32_t max_tokens) {
  DecodeOptions options;
  options.streams = streams;
  options.params.max_tokens = max_tokens;
  return options;
}

TEST(BenchDecode, CountsDecodeStepsAlone) {
  ScriptedEngine engine;
  const auto prompts = prompts_of(3);
  const auto pass = decode_prompts(engine, nullptr, prompts, options_of(1, 6));
  ASSERT_TRUE(pass) << pass.error().message;
  EXPECT_EQ(engine.most_sessions, 1u);
  // The first token is the prefill's; 2, 2 and 1 come from three cycles a text.
  EXPECT_EQ(pass->texts[1], (std::vector<int32_t>{21, 22, 23, 24, 25, 26}));
  EXPECT_EQ(pass->times.num_steps, 9u);
  EXPECT_EQ(pass->times.draft_s, 9);
  EXPECT_EQ(pass->times.verify_s, 18);
  EXPECT_EQ(pass->times.other_s, 45);
  EXPECT_EQ(pass->rate.num_tokens, 15u);
  EXPECT_EQ(pass->rate.tokens_per_second(), 15.0 / 72);
  ASSERT_EQ(pass->prompt_rates.size(), 3u);
  EXPECT_EQ(pass->prompt_rates[2].tokens_per_second(), 5.0 / 24);
  EXPECT_EQ(pass->speculation.accepted_length(), 15.0 / 9);
  ASSERT_EQ(pass->prompt_speculation.size(), 3u);
  EXPECT_EQ(pass->prompt_speculation[2].num_cycles(), 3u);
  EXPECT_EQ(pass->prompt_speculation[2].accepted_length(), 5.0 / 3);
}

TEST(BenchDecode, TimesAreOfStepsInWhichAllStreamsDecode) {
  ScriptedEngine engine;
  const auto prompts = prompts_of(1);
  std::vector<std::pair<size_t, size_t>> progress;
  DecodeOptions options = options_of(3, 5);
  options.progress = [&](size_t done, size_t total) { progress.emplace_back(done, total); };
  const auto pass = decode_prompts(engine, nullptr, prompts, options);
  ASSERT_TRUE(pass) << pass.error().message;
  EXPECT_EQ(engine.most_sessions, 3u);
  ASSERT_EQ(progress.size(), 6u);  // the prompt is decoded twice a stream
  EXPECT_EQ(progress.back(), (std::pair<size_t, size_t>{6, 6}));
  EXPECT_EQ(pass->times.num_steps, 4u);  // two cycles for each three texts, and nothing alone
  EXPECT_EQ(pass->times.verify_s, 4 * 202);
  EXPECT_EQ(pass->rate.num_tokens, 24u);
  EXPECT_TRUE(pass->prompt_rates.empty());
}

TEST(BenchDecode, RefusesTextsTooShortToMeasure) {
  ScriptedEngine engine;
  const auto pass = decode_prompts(engine, nullptr, prompts_of(2), options_of(2, 1));
  ASSERT_FALSE(pass);
  EXPECT_EQ(pass.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(pass.error().message.find("all 2 sessions"), std::string::npos);
}

TEST(BenchDecode, TellsWhereTextsDiffer) {
  ScriptedEngine engine;
  const auto prompts = prompts_of(2);
  const auto pass = decode_prompts(engine, nullptr, prompts, options_of(1, 6));
  engine.offset = 1;
  const auto other = decode_prompts(engine, nullptr, prompts, options_of(1, 6));
  ASSERT_TRUE(pass && other);
  EXPECT_TRUE(check_same_texts(prompts, *pass, "none", *pass, "none"));
  const Status status = check_same_texts(prompts, *pass, "none", *other, "suffix");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_TRUE(status.error().message.starts_with(
      "prompt 'p0': the texts of none and suffix differ from token 2 on"))
      << status.error().message;
}

TEST(BenchResult, Median) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

DecodePass pass_of(uint64_t num_tokens, double seconds) {
  DecodePass pass;
  pass.texts = {{1, 2, 3}};
  pass.speculation.add({.num_drafts = 2, .num_accepted = 1, .num_tokens = 2});
  pass.speculation.add({.num_drafts = 2, .num_accepted = 0, .num_tokens = 1});
  pass.prompt_speculation = {pass.speculation};
  pass.times = {.num_steps = 10,
                .draft_s = 0.25 * seconds,
                .verify_s = 0.5 * seconds,
                .other_s = 0.25 * seconds};
  pass.rate = {num_tokens, seconds};
  pass.prompt_rates = {pass.rate};
  return pass;
}

BenchReport report_of_two() {
  BenchReport report{.made_by = {},
                     .model = "tiny",
                     .processor = "A & B",
                     .threads = 2,
                     .max_tokens = 64,
                     .temperature = 0,
                     .acceptance = engine::Acceptance::kKeyed,
                     .modes = {},
                     .prompts = prompts_of(1),
                     .results = {}};
  // The machine was half as fast in the second repeat.
  report.results.push_back({"none", 3, 1, {pass_of(100, 1), pass_of(100, 2), pass_of(100, 1)}});
  report.results.push_back({"suffix", 3, 1, {pass_of(150, 1), pass_of(150, 2), pass_of(150, 1)}});
  return report;
}

TEST(BenchResult, AreMediansOfThePasses) {
  const BenchReport report = report_of_two();
  const BenchResult& suffix = report.results[1];
  EXPECT_EQ(&report.base_of(suffix), report.results.data());
  EXPECT_EQ(suffix.tokens_per_second(), 150);
  EXPECT_EQ(suffix.cycle_ms(), 100);
  EXPECT_EQ(suffix.draft_ms(), 25);
  EXPECT_EQ(suffix.verify_ms(), 50);
  EXPECT_EQ(suffix.other_ms(), 25);
  EXPECT_EQ(speedup(suffix, report.results[0]), 1.5);
  EXPECT_EQ(prompt_speedup(suffix, report.results[0], 0), 1.5);
}

TEST(BenchResult, ComparesPassesSideBySide) {
  BenchReport report = report_of_two();
  report.results[0].passes = {pass_of(100, 1), pass_of(100, 4)};
  report.results[1].passes = {pass_of(200, 1), pass_of(200, 4)};
  EXPECT_EQ(speedup(report.results[1], report.results[0]), 2);
}

TEST(BenchResult, LeavesOutTextsThatEndInALoop) {
  BenchReport report = report_of_two();
  DecodePass& pass = report.results[1].passes.front();
  EXPECT_EQ(text_spread(report.results[1]).length_without_loops, 1.5);
  pass.texts.emplace_back(40, 7);
  pass.prompt_speculation.emplace_back();
  pass.prompt_speculation[1].add({.num_drafts = 2, .num_accepted = 2, .num_tokens = 3});
  const TextSpread spread = text_spread(report.results[1]);
  EXPECT_EQ(spread.num_loops, 1u);
  EXPECT_EQ(spread.length_without_loops, 1.5);
  EXPECT_EQ(spread.highest, 3);
  pass.texts[0] = pass.texts[1];
  EXPECT_EQ(text_spread(report.results[1]).length_without_loops, 0);
}

TEST(BenchReport, TablesHoldTheNumbers) {
  const std::string text = bench_tables(report_of_two(), true);
  EXPECT_TRUE(text.starts_with("tiny, 1 prompts, up to 64 tokens each, greedy; median of 3; A & B"))
      << text;
  EXPECT_NE(text.find("suffix           150.0      150.0     1.50     1.50   100.000   25.000   "
                      "50.000   25.000\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("suffix       cycles   50   50\n"), std::string::npos) << text;
  EXPECT_NE(text.find("suffix       drafts        50    0\n"), std::string::npos) << text;
  EXPECT_NE(text.find("suffix        1.50 (1 texts)  1.50\n"), std::string::npos) << text;
  EXPECT_NE(text.find("    1.50  p0 (3 tokens)\n"), std::string::npos) << text;
  EXPECT_EQ(bench_tables(report_of_two(), false).find("p0"), std::string::npos);
}

TEST(BenchReport, JsonIsOneObject) {
  const auto json = nlohmann::json::parse(bench_json(report_of_two()));
  EXPECT_EQ(json["repeat"], 3);
  ASSERT_EQ(json["results"].size(), 2u);
  const auto& suffix = json["results"][1];
  EXPECT_EQ(suffix["drafter"], "suffix");
  EXPECT_EQ(suffix["speedup"], 1.5);
  EXPECT_EQ(suffix["cycles_by_length"], (std::vector<int>{1, 1}));
  EXPECT_EQ(suffix["texts_with_loops"], 0);
  EXPECT_EQ(suffix["accepted_length_without_loops"], 1.5);
  EXPECT_EQ(suffix["highest_accepted_length"], 1.5);
  EXPECT_EQ(suffix["per_position"], (std::vector<double>{0.5, 0}));
  EXPECT_EQ(suffix["cycle_ms"]["verify"], 50);
  EXPECT_EQ(suffix["tokens_per_second_of_repeats"].size(), 3u);
  EXPECT_EQ(suffix["prompts"][0]["speedup"], 1.5);
}

size_t count_of(const std::string& text, std::string_view piece) {
  size_t count = 0;
  for (size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) {
    ++count;
  }
  return count;
}

TEST(BenchReport, PictureHasABarForEveryNumber) {
  const std::string svg = bench_svg(report_of_two());
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg;
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_NE(svg.find("A &amp; B"), std::string::npos);
  // The background, 2 legend entries in each of 3 charts, 2 + 2 bars and 2 x 3 of the histogram.
  EXPECT_EQ(count_of(svg, "<rect "), 1u + 6 + 4 + 6);
  EXPECT_EQ(count_of(svg, "<text "), count_of(svg, "</text>"));
}

TEST(Svg, BarsReachTheirValues) {
  Svg svg(400, 226);
  const BarChart chart{
      .title = "<t>", .groups = {"g"}, .series = {"a", "b"}, .values = {{50}, {100}}};
  draw_bars(chart, {0, 0, 400, 248}, false, &svg);
  const std::string text = svg.str();
  EXPECT_NE(text.find("&lt;t&gt;"), std::string::npos);
  // The axis has steps of 50 up to 150 over 200 units: 4/3 a unit.
  EXPECT_NE(text.find("height=\"66.7\" fill=\"#999999\""), std::string::npos) << text;
  EXPECT_NE(text.find("height=\"133.3\" fill=\"#0072b2\""), std::string::npos) << text;
}

TEST(Svg, ChartsOfZerosAreDrawn) {
  Svg svg(100, 100);
  draw_bars({.title = "", .groups = {"g"}, .series = {"a"}, .values = {{0}}}, {0, 0, 100, 100},
            true, &svg);
  EXPECT_EQ(svg.str().find("nan"), std::string::npos);
  EXPECT_EQ(svg.str().find("inf"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::apps
