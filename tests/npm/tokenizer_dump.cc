// Our side of the comparison with the npm packages: encodes and decodes JSON lines.
//
//   tokenizer_dump TOKENIZER_JSON    each line {"text", "add_special_tokens", "parse_special",
//                                    "skip_special"} of stdin becomes a line {"ids", "decoded"} of
//                                    stdout; {"ids", "skip_special"} is decoded alone
//   tokenizer_dump --unassigned      the ranges of code points, one [first, last] a line, that have
//                                    no category in the Unicode tables of our regular expressions
#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "text/regex.h"
#include "text/tokenizer.h"

namespace {

using nlohmann::json;
using namespace ultraspeed;
using namespace ultraspeed::text;

int print_unassigned() {
  std::string all;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c < 0xD800 || c > 0xDFFF) append_utf8(c, all);
  }
  Result<Regex> regex = Regex::compile("\\p{Cn}+");
  US_CHECK(regex.has_value(), "{}", regex.error().message);
  RegexMatcher matcher(*regex);
  for (size_t from = 0;;) {
    const Result<std::optional<ByteRange>> match = matcher.find(all, from);
    US_CHECK(match.has_value(), "{}", match.error().message);
    if (!*match) return 0;
    const ByteRange range = **match;
    size_t last = range.end - 1;
    while ((static_cast<unsigned char>(all[last]) & 0xC0) == 0x80) --last;
    const auto code_point_at = [&](size_t offset) {
      return static_cast<uint32_t>(
          first_utf8_piece(std::string_view(all).substr(offset)).code_point);
    };
    fmt::print("[{}, {}]\n", code_point_at(range.begin), code_point_at(last));
    from = range.end;
  }
}

Result<std::vector<int32_t>> ids_of(const Tokenizer& tokenizer, const json& request) {
  if (request.contains("ids")) return request["ids"].get<std::vector<int32_t>>();
  EncodeOptions options;
  options.add_special_tokens = request.value("add_special_tokens", false);
  options.parse_special = request.value("parse_special", true);
  return tokenizer.encode(request.at("text").get<std::string>(), options);
}

int dump(const std::string& path) {
  const Result<Tokenizer> tokenizer = Tokenizer::load(path);
  if (!tokenizer) {
    fmt::print(stderr, "{}\n", tokenizer.error().message);
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const json request = json::parse(line);
    const auto ids = ids_of(*tokenizer, request);
    if (!ids) {
      fmt::print(stderr, "{}\n", ids.error().message);
      return 1;
    }
    const bool skip_special = request.value("skip_special", false);
    const json answer = {{"ids", *ids}, {"decoded", tokenizer->decode(*ids, skip_special)}};
    fmt::print("{}\n", answer.dump());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: tokenizer_dump TOKENIZER_JSON | --unassigned\n");
    return 2;
  }
  const std::string argument = argv[1];
  return argument == "--unassigned" ? print_unassigned() : dump(argument);
}
