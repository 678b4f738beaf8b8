// Steps may be Sequences of steps, nested to any depth that the JSON parser admits (1024); the
// sequences are flattened first.
#include "text/tokenizer_pipeline.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

// The built-in expression of ByteLevel (use_regex), from the GPT-2 encoder.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kSplitBehaviors = {{
    {"Isolated", SplitBehavior::kIsolated},
    {"Removed", SplitBehavior::kRemoved},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
}};

struct Step {
  std::string_view type;
  JsonNode node;
};

tl::unexpected<Error> unsupported(const Step& step, std::string_view expected) {
  return step.node.error(ErrorCode::kUnsupported,
                         fmt::format("\"{}\" is not supported; expected {}", step.type, expected));
}

// The steps below a node, in order; a Sequence lists its steps under `list_key`.
Status flatten(const JsonNode& node, std::string_view list_key, std::vector<Step>& steps) {
  US_ASSIGN(const std::string_view type, node.string_member("type"));
  if (type != "Sequence") {
    steps.push_back({type, node});
    return {};
  }
  US_ASSIGN(const JsonNode list, node.member(list_key));
  US_ASSIGN(const std::vector<JsonNode> children, list.elements());
  for (const JsonNode& child : children) US_TRY(flatten(child, list_key, steps));
  return {};
}

Result<std::vector<Step>> steps_of(const JsonNode& root, std::string_view key,
                                   std::string_view list_key) {
  std::vector<Step> steps;
  US_ASSIGN(const std::optional<JsonNode> node, root.optional_member(key));
  if (node) US_TRY(flatten(*node, list_key, steps));
  return steps;
}

Result<Regex> parse_pattern(const JsonNode& split) {
  US_ASSIGN(const JsonNode pattern, split.member("pattern"));
  US_ASSIGN(const std::optional<JsonNode> literal, pattern.optional_member("String"));
  US_ASSIGN(const JsonNode node, literal ? Result<JsonNode>(*literal) : pattern.member("Regex"));
  US_ASSIGN(const std::string_view source, node.string());
  if (source.empty()) return node.error(ErrorCode::kUnsupported, "expected a pattern, found \"\"");
  Result<Regex> regex = literal ? Regex::compile_literal(source) : Regex::compile(source);
  if (!regex) return node.error(regex.error().code, regex.error().message);
  return regex;
}

Result<Split> parse_split(const JsonNode& node) {
  US_ASSIGN(Regex regex, parse_pattern(node));
  US_ASSIGN(const JsonNode behavior, node.member("behavior"));
  US_ASSIGN(const std::string_view name, behavior.string());
  const auto found = std::find_if(kSplitBehaviors.begin(), kSplitBehaviors.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  if (found == kSplitBehaviors.end()) {
    return behavior.error(ErrorCode::kUnsupported,
                          fmt::format("the behavior \"{}\" is not supported; expected Isolated, "
                                      "Removed, MergedWithPrevious, MergedWithNext or Contiguous",
                                      name));
  }
  US_ASSIGN(const bool invert, node.bool_member("invert"));
  return Split{std::move(regex), found->second, invert};
}

// What a TemplateProcessing puts for a special token.
Status append_template_token(const JsonNode& processor, const JsonNode& token,
                             const TokenizerSpec& spec, std::vector<int32_t>& out) {
  US_ASSIGN(const std::string_view name, token.string_member("id"));
  US_ASSIGN(const JsonNode tokens, processor.member("special_tokens"));
  US_ASSIGN(const JsonNode entry, tokens.member(name));
  US_ASSIGN(const JsonNode ids, entry.member("ids"));
  US_ASSIGN(const std::vector<JsonNode> nodes, ids.elements());
  for (const JsonNode& node : nodes) {
    US_ASSIGN(const int64_t id, node.integer());
    const bool is_known = std::any_of(spec.ids.begin(), spec.ids.end(),
                                      [&](const auto& known) { return known.second == id; });
    if (!is_known) {
      return node.error(ErrorCode::kInvalidData, fmt::format("no token has the id {}", id));
    }
    out.push_back(static_cast<int32_t>(id));
  }
  return {};
}

// The "single" template: special tokens around one "A". An outer processor wraps an inner one.
Status parse_template(const JsonNode& processor, TokenizerSpec& spec) {
  US_ASSIGN(const JsonNode single, processor.member("single"));
  US_ASSIGN(const std::vector<JsonNode> items, single.elements());
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  bool has_text = false;
  for (const JsonNode& item : items) {
    US_ASSIGN(const std::optional<JsonNode> token, item.optional_member("SpecialToken"));
    if (token) {
      US_TRY(append_template_token(processor, *token, spec, has_text ? suffix : prefix));
      continue;
    }
    US_ASSIGN(const JsonNode sequence, item.member("Sequence"));
    US_ASSIGN(const std::string_view name, sequence.string_member("id"));
    if (name != "A" || has_text) {
      return item.error(ErrorCode::kUnsupported, "expected the sequence \"A\" exactly once");
    }
    has_text = true;
  }
  if (!has_text) return single.error(ErrorCode::kUnsupported, "expected the sequence \"A\"");
  spec.prefix_ids.insert(spec.prefix_ids.begin(), prefix.begin(), prefix.end());
  spec.suffix_ids.insert(spec.suffix_ids.end(), suffix.begin(), suffix.end());
  return {};
}

}  // namespace

Status parse_normalizer(const JsonNode& root, TokenizerSpec& spec) {
  US_ASSIGN(const std::vector<Step> steps, steps_of(root, "normalizer", "normalizers"));
  for (const Step& step : steps) {
    if (step.type != "NFC") return unsupported(step, "null, NFC or a Sequence of them");
    spec.normalizes_nfc = true;
  }
  return {};
}

Status parse_pre_tokenizer(const JsonNode& root, TokenizerSpec& spec) {
  US_ASSIGN(const std::vector<Step> steps, steps_of(root, "pre_tokenizer", "pretokenizers"));
  std::vector<Split> splits;
  for (const Step& step : steps) {
    if (&step == &steps.back()) break;
    if (step.type != "Split") return unsupported(step, "Split before the last step");
    US_ASSIGN(Split split, parse_split(step.node));
    splits.push_back(std::move(split));
  }
  if (steps.empty() || steps.back().type != "ByteLevel") {
    return root.error_at("pre_tokenizer", ErrorCode::kUnsupported,
                         fmt::format("expected ByteLevel as the last step, found {}",
                                     steps.empty() ? "none" : steps.back().type));
  }
  const JsonNode& byte_level = steps.back().node;
  const size_t prefix_at = splits.size();
  US_ASSIGN(const bool add_prefix_space, byte_level.bool_member("add_prefix_space"));
  US_ASSIGN(const bool use_regex, byte_level.bool_member("use_regex", true));
  if (use_regex) {
    Result<Regex> regex = Regex::compile(kGpt2Pattern);
    US_CHECK(regex.has_value(), "{}", regex.error().message);
    splits.push_back({*std::move(regex), SplitBehavior::kIsolated, false});
  }
  spec.pre_tokenizer = PreTokenizer(std::move(splits), add_prefix_space, prefix_at);
  return {};
}

Status parse_post_processor(const JsonNode& root, TokenizerSpec& spec) {
  US_ASSIGN(const std::vector<Step> steps, steps_of(root, "post_processor", "processors"));
  for (const Step& step : steps) {
    if (step.type == "ByteLevel") continue;  // it adjusts offsets, which we do not report
    if (step.type != "TemplateProcessing")
      return unsupported(step, "ByteLevel, TemplateProcessing");
    US_TRY(parse_template(step.node, spec));
  }
  return {};
}

Status parse_decoder(const JsonNode& root) {
  US_ASSIGN(const std::vector<Step> steps, steps_of(root, "decoder", "decoders"));
  if (steps.size() == 1 && steps[0].type == "ByteLevel") return {};
  return root.error_at(
      "decoder", ErrorCode::kUnsupported,
      fmt::format("expected ByteLevel, found {}", steps.empty() ? "none" : steps[0].type));
}

}  // namespace ultraspeed::text
