#include "cuda/driver_calls.h"

#include <cupti.h>
#include <dlfcn.h>

#include <mutex>
#include <string_view>
#include <utility>

namespace ultraspeed::test {
namespace {

constexpr const char* kLibraries[] = {"libcupti.so.13", "/usr/local/cuda/lib64/libcupti.so.13",
                                      "/usr/local/cuda/lib/libcupti.so.13",
                                      "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13"};

void* open_cupti() {
  for (const char* name : kLibraries) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

template <class Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

// The library stays loaded: its threads may outlive the counting.
struct DriverCalls::State {
  decltype(&cuptiUnsubscribe) unsubscribe = nullptr;
  CUpti_SubscriberHandle subscriber = nullptr;
  std::mutex mutex;  // of counts: any thread of the process may call the driver
  std::map<std::string, uint64_t> counts;

  ~State() {
    if (subscriber != nullptr) unsubscribe(subscriber);
  }

  static void CUPTIAPI take(void* state, CUpti_CallbackDomain, CUpti_CallbackId, const void* data) {
    const auto* call = static_cast<const CUpti_CallbackData*>(data);
    if (call->callbackSite != CUPTI_API_ENTER) return;
    auto* self = static_cast<State*>(state);
    const std::scoped_lock lock(self->mutex);
    ++self->counts[call->functionName];
  }
};

DriverCalls::DriverCalls(std::unique_ptr<State> state) : state_(std::move(state)) {}
DriverCalls::DriverCalls(DriverCalls&&) noexcept = default;
DriverCalls::~DriverCalls() = default;

Result<DriverCalls> DriverCalls::count() {
  void* library = open_cupti();
  if (library == nullptr) {
    return make_error(ErrorCode::kNotFound, "libcupti.so.13 of CUDA 13 cannot be loaded");
  }
  auto state = std::make_unique<State>();
  decltype(&cuptiSubscribe) subscribe = nullptr;
  decltype(&cuptiEnableDomain) enable_domain = nullptr;
  if (!find(library, "cuptiSubscribe", &subscribe) ||
      !find(library, "cuptiEnableDomain", &enable_domain) ||
      !find(library, "cuptiUnsubscribe", &state->unsubscribe)) {
    return make_error(ErrorCode::kNotFound, "libcupti.so.13 has no callbacks");
  }
  if (subscribe(&state->subscriber, &State::take, state.get()) != CUPTI_SUCCESS ||
      enable_domain(1, state->subscriber, CUPTI_CB_DOMAIN_DRIVER_API) != CUPTI_SUCCESS) {
    return make_error(ErrorCode::kNotFound, "CUPTI does not watch this process; is a profiler on?");
  }
  return DriverCalls(std::move(state));
}

void DriverCalls::restart() {
  const std::scoped_lock lock(state_->mutex);
  state_->counts.clear();
}

std::map<std::string, uint64_t> DriverCalls::by_name() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->counts;
}

uint64_t DriverCalls::launches() const {
  uint64_t launches = 0;
  for (const auto& [name, count] : by_name()) {
    if (std::string_view(name).find("Launch") != std::string_view::npos) launches += count;
  }
  return launches;
}

}  // namespace ultraspeed::test
