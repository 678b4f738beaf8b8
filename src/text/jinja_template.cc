// Parsing and rendering, joined.
#include "text/jinja_template.h"

#include "text/jinja_evaluator.h"
#include "text/jinja_lexer.h"
#include "text/jinja_parser.h"
#include "text/jinja_scope.h"

namespace ultraspeed::text::jinja {

Template::Template(std::string source, std::unique_ptr<Tree> tree)
    : source_(std::move(source)), tree_(std::move(tree)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return make_error(ErrorCode::kInvalidData, "chat template: {} bytes exceed the limit of {}",
                      source.size(), kMaxSourceBytes);
  }
  if (!is_valid_utf8(source)) {
    return make_error(ErrorCode::kInvalidData, "chat template: not valid UTF-8");
  }
  std::string normalized = normalize_source(source);
  US_ASSIGN(Tree tree, jinja::parse(normalized));
  return Template(std::move(normalized), std::make_unique<Tree>(std::move(tree)));
}

namespace {

Status add_variables(Heap& heap, const nlohmann::ordered_json& variables, bool from_input,
                     Scope& scope) {
  if (variables.is_null()) return {};
  if (!variables.is_object()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "template variables must be a JSON object, not {}", variables.type_name());
  }
  for (const auto& [name, json] : variables.items()) {
    auto value = from_json(heap, json, from_input);
    if (!value) {
      return make_error(value.error().code, "template variable '{}': {}", name,
                        value.error().message);
    }
    scope.set(name, *value);
  }
  return {};
}

}  // namespace

Result<Text> Template::render(const nlohmann::ordered_json& own_variables,
                              const nlohmann::ordered_json& input_variables,
                              const RenderOptions& options) const {
  Heap heap(options.limits);
  Scope globals(nullptr);
  US_TRY(add_variables(heap, own_variables, false, globals));
  US_TRY(add_variables(heap, input_variables, true, globals));
  const std::time_t now = options.now ? *options.now : std::time(nullptr);
  return Evaluator(heap, source_, globals, now).render(tree_->body);
}

}  // namespace ultraspeed::text::jinja
