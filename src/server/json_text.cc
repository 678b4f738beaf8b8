#include "server/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "text/utf8.h"

namespace ultraspeed::server {
namespace {

// JSON has no infinity; -9999 is what open servers write for a token that cannot be chosen.
float finite(float logprob) {
  return std::isfinite(logprob) ? logprob : -9999.0F;
}

void append_number(std::string& out, float number) {
  fmt::format_to(std::back_inserter(out), "{}", number);
}

void append_chat_token(std::string& out, std::string_view bytes, float logprob) {
  out += R"({"token":)";
  append_json_string(out, text::replace_malformed(bytes).text);
  out += R"(,"logprob":)";
  append_number(out, finite(logprob));
  fmt::format_to(std::back_inserter(out), R"(,"bytes":[)");
  for (size_t i = 0; i < bytes.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i > 0 ? "," : "",
                   static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

std::string completion_token(std::string_view bytes) {
  if (text::is_valid_utf8(bytes)) return std::string(bytes);
  std::string spelling = "bytes:";
  for (const char byte : bytes) {
    fmt::format_to(std::back_inserter(spelling), "\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return spelling;
}

// [f(0),f(1),...]
template <class Function>
void append_array(std::string& out, size_t size, Function append_element) {
  out += '[';
  for (size_t i = 0; i < size; ++i) {
    if (i > 0) out += ',';
    append_element(i);
  }
  out += ']';
}

void append_top_logprobs_map(std::string& out, const text::Tokenizer& tokenizer,
                             const engine::Token& token) {
  out += '{';
  for (size_t i = 0; i < token.top_logprobs.size(); ++i) {
    const auto& [id, logprob] = token.top_logprobs[i];
    if (i > 0) out += ',';
    append_json_string(out, completion_token(tokenizer.token_bytes(id)));
    out += ':';
    append_number(out, finite(logprob));
  }
  out += '}';
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  append_json_escaped(out, text);
  out += '"';
}

void append_json_escaped(std::string& out, std::string_view text) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out += text.substr(begin, i - begin);
    begin = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    }
  }
  out += text.substr(begin);
}

void append_token_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                           std::span<const engine::Token> tokens) {
  append_array(out, tokens.size(), [&](size_t i) {
    const engine::Token& token = tokens[i];
    append_chat_token(out, tokenizer.token_bytes(token.id), token.logprob);
    out += R"(,"top_logprobs":)";
    append_array(out, token.top_logprobs.size(), [&](size_t k) {
      const auto& [id, logprob] = token.top_logprobs[k];
      append_chat_token(out, tokenizer.token_bytes(id), logprob);
      out += '}';
    });
    out += '}';
  });
}

void append_chat_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                          std::span<const engine::Token> tokens) {
  out += R"({"content":)";
  append_token_logprobs(out, tokenizer, tokens);
  out += R"(,"refusal":null})";
}

void append_completion_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                                std::span<const engine::Token> tokens, bool is_first_unknown,
                                size_t* text_offset) {
  const auto is_unknown = [is_first_unknown](size_t i) { return i == 0 && is_first_unknown; };
  out += R"({"tokens":)";
  append_array(out, tokens.size(), [&](size_t i) {
    append_json_string(out, completion_token(tokenizer.token_bytes(tokens[i].id)));
  });
  out += R"(,"token_logprobs":)";
  append_array(out, tokens.size(), [&](size_t i) {
    if (is_unknown(i)) {
      out += "null";
    } else {
      append_number(out, finite(tokens[i].logprob));
    }
  });
  out += R"(,"top_logprobs":)";
  append_array(out, tokens.size(), [&](size_t i) {
    if (is_unknown(i)) {
      out += "null";
    } else {
      append_top_logprobs_map(out, tokenizer, tokens[i]);
    }
  });
  out += R"(,"text_offset":)";
  append_array(out, tokens.size(), [&](size_t i) {
    fmt::format_to(std::back_inserter(out), "{}", *text_offset);
    *text_offset += count_characters(tokenizer.token_bytes(tokens[i].id));
  });
  out += '}';
}

void append_prompt_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                            std::span<const engine::Token> tokens) {
  const auto append_entry = [&](int32_t id, float logprob, size_t rank) {
    fmt::format_to(std::back_inserter(out), R"({}"{}":{{"logprob":)", out.back() == '{' ? "" : ",",
                   id);
    append_number(out, finite(logprob));
    out += R"(,"rank":)";
    out += rank == 0 ? "null" : fmt::to_string(rank);
    out += R"(,"decoded_token":)";
    append_json_string(out, completion_token(tokenizer.token_bytes(id)));
    out += '}';
  };
  append_array(out, tokens.size(), [&](size_t i) {
    if (i == 0) {
      out += "null";
      return;
    }
    const engine::Token& token = tokens[i];
    out += '{';
    for (size_t k = 0; k < token.top_logprobs.size(); ++k) {
      append_entry(token.top_logprobs[k].first, token.top_logprobs[k].second, k + 1);
    }
    const bool is_among_them = std::ranges::any_of(
        token.top_logprobs, [&](const auto& top) { return top.first == token.id; });
    if (!is_among_them) append_entry(token.id, token.logprob, 0);
    out += '}';
  });
}

size_t count_characters(std::string_view utf8) {
  size_t count = 0;
  for (const char c : utf8) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++count;
  }
  return count;
}

}  // namespace ultraspeed::server
