#include "net/stream_adapter.h"

namespace ultraspeed::net {

namespace asio = boost::asio;
using boost::system::error_code;

void StreamAdapter::read(asio::mutable_buffer buffer, Stream::Handler handler) {
  if (input_.empty()) return stream_->read_some(buffer, std::move(handler));
  const size_t size = asio::buffer_copy(buffer, asio::buffer(input_));
  input_.erase(0, size);
  asio::post(io_, [handler = std::move(handler), size] { handler({}, size); });
}

void StreamAdapter::write(Stream::Handler handler) {
  last_write_ = std::chrono::steady_clock::now();
  stream_->write_some(asio::buffer(output_),
                      [this, handler = std::move(handler)](const error_code& error, size_t size) {
                        last_write_ = std::chrono::steady_clock::now();
                        handler(error, size);
                      });
}

void StreamAdapter::tear_down(std::function<void(const error_code&)> done) {
  is_torn_down_ = true;
  last_write_ = std::chrono::steady_clock::now();
  constexpr size_t kDiscardBytes = 4096;
  auto buffer = std::make_shared<std::vector<char>>(kDiscardBytes);
  stream_->end_sending([this, buffer, done = std::move(done)] { discard(buffer, done); });
}

void StreamAdapter::discard(std::shared_ptr<std::vector<char>> buffer,
                            std::function<void(const error_code&)> done) {
  const auto to = asio::buffer(*buffer);
  stream_->read_some(to, [this, buffer = std::move(buffer), done = std::move(done)](
                             const error_code& error, size_t) {
    if (error) return done({});
    discard(buffer, done);
  });
}

}  // namespace ultraspeed::net
