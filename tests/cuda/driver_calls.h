// Counts what a process asks of the CUDA driver, through CUPTI's callbacks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"

namespace ultraspeed::test {

// One at a time in a process.
class DriverCalls {
 public:
  // Counts from now on; nothing may run on the device, which CUPTI waits for. CUPTI is loaded where
  // it is found: in the loader's path or in the CUDA installation's folders. Errors: kNotFound.
  static Result<DriverCalls> count();
  DriverCalls(DriverCalls&&) noexcept;
  DriverCalls& operator=(DriverCalls&&) = delete;
  ~DriverCalls();

  // Forgets what was counted.
  void restart();
  // By the function's name, such as "cuGraphLaunch".
  std::map<std::string, uint64_t> by_name() const;
  // Those that start kernels: of functions with "Launch" in their names.
  uint64_t launches() const;

 private:
  struct State;
  explicit DriverCalls(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace ultraspeed::test
