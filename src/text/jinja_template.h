// A compiled template of the Jinja subset. Rendering does not change it: one Template may render on
// many threads at once.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

struct Tree;

struct RenderOptions {
  Limits limits;
  std::optional<std::time_t> now;  // what strftime_now formats; the clock's time when not given
};

class Template {
 public:
  static constexpr size_t kMaxSourceBytes = size_t{1} << 20;

  // Errors: kInvalidData for malformed templates, kUnsupported for constructs outside of the
  // subset; both name line and column.
  static Result<Template> parse(std::string_view source);

  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // Renders with two objects of variables: those of the template's owner (special tokens, flags),
  // whose text counts as the template's own, and those of the request, whose text is input. The
  // request's win. Errors: kInvalidArgument (also when a limit is exceeded), kUnsupported.
  Result<Text> render(const nlohmann::ordered_json& own_variables,
                      const nlohmann::ordered_json& input_variables,
                      const RenderOptions& options = {}) const;

 private:
  Template(std::string source, std::unique_ptr<Tree> tree);

  std::string source_;
  std::unique_ptr<Tree> tree_;
};

}  // namespace ultraspeed::text::jinja
