// How a model of a Hugging Face hub is named: ORG/NAME, or ORG/NAME@REVISION.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ultraspeed::hub {

inline constexpr std::string_view kDefaultRevision = "main";

struct ModelReference {
  std::string id;                          // "ORG/NAME"
  std::string revision{kDefaultRevision};  // a branch, a tag or a commit
  bool has_default_revision() const { return revision == kDefaultRevision; }
  std::string text() const { return has_default_revision() ? id : id + "@" + revision; }
};

// nullopt for what names no model: a path, for example. The rules are the hub's: letters, digits,
// '.', '_' and '-', without these at the ends, "--" and "..". No path that begins with "./", "../",
// "/" or "~/", or has two slashes, is a reference.
std::optional<ModelReference> parse_reference(std::string_view text);

// Whether a name from outside is one of a file below a folder, whatever the folder: relative,
// without empty parts, "." and "..", backslashes and control characters, of parts that file systems
// hold.
bool is_inside_path(std::string_view path);

// 40 digits of a commit's name, in lower case.
bool is_commit(std::string_view text);

}  // namespace ultraspeed::hub
