// A model inside a program: embed DIR TEXT [TOKENS] continues a text, greedily, on the processor.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cpu/executor.h"
#include "engine/embed.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

using namespace ultraspeed;

static Status continue_text(const std::string& directory, const std::string& text,
                            uint32_t max_tokens) {
  US_ASSIGN(const text::Tokenizer tokenizer,
            text::Tokenizer::load(directory + "/tokenizer.json"));
  US_ASSIGN(const std::vector<int32_t> prompt, tokenizer.encode(text));

  engine::EmbedOptions options;
  options.directory = directory;
  options.engine.max_context = 2048;
  US_ASSIGN(auto model, engine::Embedded::open(options, cpu::make_cpu_executor({}),
                                               cpu::cpu_limits(0)));

  engine::GenerationParams params = model.default_params();
  params.sampling.temperature = 0;
  params.max_tokens = max_tokens;
  text::Detokenizer detokenizer(tokenizer, true);
  US_TRY(model.generate(prompt, params, [&](int32_t token) {
    std::fputs(detokenizer.push(token).c_str(), stdout);
    return std::fflush(stdout) == 0;
  }));
  std::puts(detokenizer.finish().c_str());
  return {};
}

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("embed DIR TEXT [TOKENS]\n", stderr), 2;
  const auto tokens = static_cast<uint32_t>(argc > 3 ? std::atoi(argv[3]) : 64);
  const Status status = continue_text(argv[1], argv[2], tokens);
  if (!status) std::fprintf(stderr, "embed: %s\n", status.error().message.c_str());
  return status ? 0 : 1;
}
