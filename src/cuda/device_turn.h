// Executors of a process take turns on the GPU: beside a kernel that stays others would find no
// room, and whatever waits for the device (cudaFree() does) would wait for ever.
#pragma once

#include <mutex>

namespace ultraspeed::cuda {

// Who may have left a kernel on the device.
class Occupant {
 public:
  // Ends it. Called in another's turn.
  virtual void leave() = 0;

 protected:
  ~Occupant() = default;
};

// While it lives nobody else has a turn.
class DeviceTurn {
 public:
  // For `occupant`, or for somebody who leaves nothing behind; any other occupant leaves first.
  explicit DeviceTurn(Occupant* occupant = nullptr);

 private:
  std::lock_guard<std::mutex> lock_;
};

}  // namespace ultraspeed::cuda
