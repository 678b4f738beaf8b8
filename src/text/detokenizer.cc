// The incremental form of replace_malformed(): only a piece that the end cuts off stays behind.
#include "text/detokenizer.h"

#include <string_view>

#include "text/utf8.h"

namespace ultraspeed::text {

std::string Detokenizer::push(int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  pending_ += tokenizer_->token_bytes(id);
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Piece piece = first_utf8_piece(rest);
    if (piece.kind == Utf8Kind::kCutOff) break;
    text += piece.kind == Utf8Kind::kCharacter ? rest.substr(0, piece.size_bytes)
                                               : kReplacementCharacter;
    rest.remove_prefix(piece.size_bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string Detokenizer::finish() {
  if (pending_.empty()) return {};
  pending_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace ultraspeed::text
