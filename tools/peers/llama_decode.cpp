// llama_decode MODEL.gguf THREADS PROMPT TOKENS: reads a prompt of PROMPT ids (1, 2, 3, ...) and
// decodes TOKENS ids greedily with llama.cpp. Prints one JSON object: ids, seconds of the prompt,
// seconds of each step. Built by tools/peers/processor against llama.cpp's own headers.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int threads = std::atoi(argv[2]), prompt = std::atoi(argv[3]), count = std::atoi(argv[4]);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  ggml_backend_load_all_from_path(std::getenv("GGML_DIR"));
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 2048;
  params.n_batch = 512;
  params.n_threads = params.n_threads_batch = threads;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) return 1;
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<llama_token> ids(static_cast<size_t>(prompt));
  for (int i = 0; i < prompt; ++i) ids[static_cast<size_t>(i)] = i + 1;
  const auto likeliest = [&] {
    const float* logits = llama_get_logits_ith(context, -1);
    return static_cast<llama_token>(std::max_element(logits, logits + vocab) - logits);
  };
  Clock::time_point begin = Clock::now();
  if (llama_decode(context, llama_batch_get_one(ids.data(), prompt)) != 0) return 1;
  std::printf("{\"prompt_s\": %.6f, \"ids\": [%d", seconds_since(begin), likeliest());
  std::vector<double> steps;
  for (llama_token id = likeliest(); static_cast<int>(steps.size()) + 1 < count;) {
    begin = Clock::now();
    if (llama_decode(context, llama_batch_get_one(&id, 1)) != 0) return 1;
    id = likeliest();
    steps.push_back(seconds_since(begin));
    std::printf(", %d", id);
  }
  std::printf("], \"steps_s\": [");
  for (size_t i = 0; i < steps.size(); ++i) std::printf("%s%.6f", i == 0 ? "" : ", ", steps[i]);
  std::printf("]}\n");
}
