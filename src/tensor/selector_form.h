// How a drafter's selector joins what it has of the token before with what it has of a row, element
// by element (docs/drafters.md).
#pragma once

#include <cstdint>
#include <string_view>

namespace ultraspeed::tensor {

// u = P e of the token before, g = G h of the row.
enum class SelectorForm : uint8_t {
  kProduct,  // u g
  kGate,     // u sigmoid(g)
  kSilu,     // silu(u + g)
};

// As config.json writes it.
constexpr std::string_view selector_form_name(SelectorForm form) {
  switch (form) {
    case SelectorForm::kProduct:
      return "product";
    case SelectorForm::kGate:
      return "gate";
    case SelectorForm::kSilu:
      return "silu";
  }
  return "";
}

}  // namespace ultraspeed::tensor
