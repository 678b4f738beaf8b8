#include "grammar/one_of.h"

#include <vector>

#include "grammar/grammar_builder.h"
#include "grammar/limits.h"

namespace ultraspeed::grammar {

Result<ExprId> add_one_of(std::span<const std::string> texts, GrammarBuilder* builder) {
  if (texts.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "no texts, expected at least one");
  }
  size_t num_bytes = 0;
  for (const std::string& text : texts) num_bytes += text.size();
  if (num_bytes > kMaxSourceBytes) {
    return make_error(ErrorCode::kOutOfMemory, "texts of {} bytes, expected at most {}", num_bytes,
                      kMaxSourceBytes);
  }
  std::vector<ExprId> choices;
  for (const std::string& text : texts) {
    choices.push_back(text.empty() ? builder->sequence({}) : builder->bytes(text));
    US_TRY(builder->check_size());
  }
  return builder->choice(std::move(choices));
}

Result<Grammar> one_of(std::span<const std::string> texts) {
  GrammarBuilder builder;
  const RuleId root = builder.add_rule("root");
  US_ASSIGN(const ExprId body, add_one_of(texts, &builder));
  builder.set_body(root, body);
  return builder.build(root);
}

}  // namespace ultraspeed::grammar
