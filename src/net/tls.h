// What a TLS server shows its clients. Internal to net/.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace boost::asio::ssl {
class context;
}

namespace ultraspeed::net {

// TLS 1.2 or newer with the certificate (PEM, the chain behind it) and its private key (PEM).
// Errors: kInvalidArgument that names the file.
Result<std::shared_ptr<boost::asio::ssl::context>> make_tls_context(
    const std::string& certificate_file, const std::string& key_file);

}  // namespace ultraspeed::net
