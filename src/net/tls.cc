#include "net/tls.h"

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <fstream>

namespace ultraspeed::net {
namespace {

namespace ssl = boost::asio::ssl;

Status check_readable(const std::string& what, const std::string& path) {
  if (path.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "TLS needs a certificate and a key; no {} given",
                      what);
  }
  const std::ifstream file(path);
  if (file) return {};
  return make_error(ErrorCode::kInvalidArgument, "{}: cannot read the {}: {}", path, what,
                    std::generic_category().message(errno));
}

// What OpenSSL complained about first.
std::string openssl_reason() {
  const char* const reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

}  // namespace

Result<std::shared_ptr<ssl::context>> make_tls_context(const std::string& certificate_file,
                                                       const std::string& key_file) {
  US_TRY(check_readable("certificate", certificate_file));
  US_TRY(check_readable("private key", key_file));
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);  // 34 KiB of an idle connection
  // An encrypted key would ask for its passphrase on a terminal that may not be there.
  SSL_CTX_set_default_passwd_cb(native, [](char*, int, int, void*) { return -1; });
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(native, certificate_file.c_str()) != 1) {
    return make_error(ErrorCode::kInvalidArgument, "{}: not a certificate in PEM: {}",
                      certificate_file, openssl_reason());
  }
  const bool has_key = SSL_CTX_use_PrivateKey_file(native, key_file.c_str(), SSL_FILETYPE_PEM) == 1;
  const int reason = ERR_GET_REASON(ERR_peek_error());
  if (!has_key && (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: not the key of the certificate in {}",
                      key_file, certificate_file);
  }
  if (!has_key) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: not a private key in PEM without a passphrase: {}", key_file,
                      openssl_reason());
  }
  return context;
}

}  // namespace ultraspeed::net
