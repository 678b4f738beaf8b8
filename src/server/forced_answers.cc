#include "server/forced_answers.h"

#include <algorithm>
#include <utility>

#include "server/json_fields.h"

namespace ultraspeed::server {
namespace {

class ForcedTokens final : public engine::TokenConstraint {
 public:
  explicit ForcedTokens(std::shared_ptr<const std::vector<int32_t>> tokens)
      : tokens_(std::move(tokens)) {}

  void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) override {
    const size_t place = place_ + drafts.size();
    std::ranges::fill(words, 0);
    if (place >= tokens_->size()) return;
    const auto id = static_cast<size_t>((*tokens_)[place]);
    if (id / 64 < words.size()) words[id / 64] |= uint64_t{1} << id % 64;
  }

  // Now few, now many, so that a stream has chunks of all sizes; sometimes the drafter's turn.
  void propose(uint32_t limit, std::vector<int32_t>* drafts) override {
    const size_t count = std::min({size_t{limit}, place_ % 8, tokens_->size() - place_});
    const auto next = std::span(*tokens_).subspan(place_, count);
    drafts->insert(drafts->end(), next.begin(), next.end());
  }

  void advance(int32_t /*token_id*/) override { place_ = std::min(place_ + 1, tokens_->size()); }

  std::unique_ptr<engine::TokenConstraint> clone() const override {
    return std::make_unique<ForcedTokens>(*this);
  }

 private:
  std::shared_ptr<const std::vector<int32_t>> tokens_;
  size_t place_ = 0;  // of the next one
};

struct ScriptLine {
  std::string text;
  std::string when;
};

ApiResult<ScriptLine> read_line(std::string_view line) {
  US_ASSIGN(const Json json, parse_json(line, "the line"));
  if (!json.is_object()) {
    return invalid_field("", "expected an object with 'text' and perhaps 'when'");
  }
  ScriptLine read;
  const Fields fields(json);
  US_TRY(fields.read("text", &read.text));
  US_TRY(fields.read("when", &read.when));
  if (fields.find("text") == nullptr) return invalid_field("text", "'text' is missing");
  return read;
}

}  // namespace

Result<ForcedAnswers> ForcedAnswers::parse(std::string_view lines, const std::string& label,
                                           const text::Tokenizer& tokenizer, int32_t stop_id) {
  ForcedAnswers answers(tokenizer);
  for (size_t number = 1; !lines.empty(); ++number) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto read = read_line(line);
    if (!read) {
      return make_error(ErrorCode::kInvalidArgument, "{}:{}: {}", label, number,
                        read.error().message);
    }
    US_ASSIGN(std::vector<int32_t> tokens, tokenizer.encode(read->text));
    tokens.push_back(stop_id);
    answers.entries_.push_back(
        {std::move(read->when), std::make_shared<const std::vector<int32_t>>(std::move(tokens))});
  }
  if (answers.entries_.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: empty; expected an answer a line", label);
  }
  return answers;
}

std::shared_ptr<const engine::TokenConstraint> ForcedAnswers::find(
    std::span<const int32_t> prompt) const {
  const std::string text = tokenizer_->decode(prompt);
  const auto entry = std::ranges::find_if(entries_, [&](const Entry& candidate) {
    return text.find(candidate.when) != std::string::npos;
  });
  if (entry == entries_.end()) return nullptr;
  return std::make_shared<ForcedTokens>(entry->tokens);
}

}  // namespace ultraspeed::server
