#include "golden/golden_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "support/reference_folder.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream file(path);
  US_CHECK(file.good(), "{}", path);
  return json::parse(file);
}

GoldenCase parse_case(const json& object, const char* top_key) {
  GoldenCase golden;
  golden.prompt = object.value("prompt", "");
  golden.prompt_ids = object.at("prompt_ids").get<std::vector<int32_t>>();
  golden.greedy_ids = object.at("greedy_ids").get<std::vector<int32_t>>();
  for (const json& step : object.at(top_key)) {
    golden.top.push_back(
        {step.at("ids").get<std::vector<int32_t>>(), step.at("logits").get<std::vector<float>>()});
  }
  US_CHECK(golden.top.size() == golden.greedy_ids.size() && !golden.top.empty());
  return golden;
}

}  // namespace

std::vector<GoldenCase> tiny_mimo_cases() {
  std::vector<GoldenCase> cases;
  const auto unpacked = reference_folder("tiny_mimo_golden");
  US_CHECK(unpacked.has_value(), "{}", unpacked.error().message);
  const std::string& directory = *unpacked;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.find('-') == std::string::npos) continue;  // tokenizer.json, chat_template.json
    cases.push_back(parse_case(read_json(entry.path().string()), "top20"));
    cases.back().name = name;
  }
  std::sort(cases.begin(), cases.end(),
            [](const GoldenCase& a, const GoldenCase& b) { return a.name < b.name; });
  US_CHECK(cases.size() == 12, "{} golden cases in {}", cases.size(), directory);
  return cases;
}

std::vector<GoldenCase> reference_cases(const std::string& directory) {
  std::vector<GoldenCase> cases;
  const json golden = read_json(directory + "/golden.json");
  for (const json& object : golden.at("cases")) {
    cases.push_back(parse_case(object, "top10"));
    cases.back().name = "case " + std::to_string(cases.size() - 1);
  }
  US_CHECK(!cases.empty());
  return cases;
}

Result<Comparison> compare(ModelRunner* runner, const GoldenCase& golden) {
  // All logits, so that every golden id is among them.
  US_ASSIGN(
      const std::vector<TopLogits> steps,
      teacher_forced(runner, golden.prompt_ids, golden.greedy_ids, runner->config().vocab_size));
  US_CHECK(steps.size() == golden.top.size());
  Comparison result;
  result.smallest_gap = INFINITY;
  std::vector<float> logits(runner->config().vocab_size);
  for (size_t i = 0; i < steps.size(); ++i) {
    for (size_t j = 0; j < steps[i].ids.size(); ++j) {
      logits[static_cast<size_t>(steps[i].ids[j])] = steps[i].logits[j];
    }
    if (steps[i].ids[0] != golden.greedy_ids[i]) ++result.wrong_tokens;
    const TopLogits& expected = golden.top[i];
    for (size_t j = 0; j < expected.ids.size(); ++j) {
      const float difference =
          std::abs(logits[static_cast<size_t>(expected.ids[j])] - expected.logits[j]);
      result.largest_difference =
          std::isnan(difference) ? INFINITY : std::max(result.largest_difference, difference);
    }
    result.smallest_gap = std::min(result.smallest_gap, expected.logits[0] - expected.logits[1]);
  }
  return result;
}

}  // namespace ultraspeed::test
