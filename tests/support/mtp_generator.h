// The bundled model with MTP layers of random weights beside its own files.
#pragma once

#include <cstdint>
#include <string>

#include "support/temporary_directory.h"

namespace ultraspeed::test {

class TinyMimoWithMtp {
 public:
  explicit TinyMimoWithMtp(uint32_t num_layers);

  const std::string& path() const { return directory_.path(); }

 private:
  const TemporaryDirectory directory_;
};

}  // namespace ultraspeed::test
