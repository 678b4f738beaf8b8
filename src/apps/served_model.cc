#include "apps/served_model.h"

#include <utility>

#include "apps/model_argument.h"
#include "engine/params.h"

namespace ultraspeed::apps {

Result<server::ServedModel> make_served_model(std::string name, const ModelOptions& options,
                                              const LoadedModel& model, engine::Engine& engine) {
  server::ServedModel served;
  served.name = std::move(name);
  if (served.name.empty()) served.name = model_name(model.directory());
  served.engine = &engine;
  US_ASSIGN(served.tokenizer, model.require_tokenizer());
  served.chat_template = model.chat_template();
  served.defaults.sampling = engine::default_sampling(model.generation());
  served.defaults.sampling.acceptance = options.speculation.acceptance;
  served.defaults.stop_ids = model.stop_ids();
  return served;
}

}  // namespace ultraspeed::apps
