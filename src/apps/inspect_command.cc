#include "apps/inspect_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <memory>

#include "apps/files.h"
#include "apps/graphviz.h"
#include "apps/loaded_model.h"
#include "apps/model_argument.h"
#include "apps/model_table.h"
#include "apps/outlook.h"
#include "apps/terminal.h"
#include "plan/plan.h"
#include "program/print.h"
#include "program/verify.h"

namespace ultraspeed::apps {
namespace {

struct InspectOptions {
  ModelOptions model;
  bool program = false;
  bool tasks = false;
  std::string graph;  // a layer, or "outside"
  std::string svg;
  std::string output = "-";
  uint32_t width = 8;
};

Result<program::Program> decode_program(const InspectOptions& options, const ModelFolder& folder) {
  const program::DeviceLimits limits = processor_limits(options.model.executor);
  const plan::PlanOptions plan_options{.name = "decode",
                                       .width = options.width,
                                       .num_ranks = options.model.executor.ranks,
                                       .logits = plan::LogitsPlace::kShares,
                                       .max_context = options.model.context};
  const auto shape_of = [&folder](const model::WeightSource& source) {
    return folder.shape(source);
  };
  US_ASSIGN(plan::Plan plan, plan::make_plan(folder.config, shape_of, limits, plan_options));
  US_TRY(program::verify(plan.program));
  return std::move(plan.program);
}

Result<uint16_t> parse_layer(const std::string& text, uint32_t num_layers) {
  if (text == "outside") return program::kNoLayer;
  uint16_t layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error == std::errc() && end == text.data() + text.size() && layer < num_layers) return layer;
  return make_error(ErrorCode::kInvalidArgument,
                    "--graph {}: expected a layer from 0 to {}, or 'outside' for what is outside "
                    "the layers",
                    text, num_layers - 1);
}

Status print(const InspectOptions& options, std::string_view text) {
  if (options.output == "-") return write_all(STDOUT_FILENO, text);
  return write_file(options.output, text);
}

Status inspect(const InspectOptions& options) {
  US_ASSIGN(const std::string directory, model_directory(options.model));
  auto folder = ModelFolder::open(directory);
  if (!folder) {
    // The folder may hold a drafter instead of a model.
    const auto drafter = model::DrafterConfig::load(directory);
    if (drafter) return print(options, drafter_table(*drafter));
    return tl::unexpected(with_pull_advice(folder.error(), directory));
  }
  if (!options.graph.empty()) {
    US_ASSIGN(const uint16_t layer, parse_layer(options.graph, folder->config.num_layers()));
    US_ASSIGN(const program::Program program, decode_program(options, *folder));
    const std::string dot = program::print_layer_graph(program, layer);
    if (!options.svg.empty()) return render_svg(dot, options.svg);
    return print(options, dot);
  }
  if (options.program || options.tasks) {
    US_ASSIGN(const program::Program program, decode_program(options, *folder));
    return print(options, program::print_program(program, options.tasks));
  }
  US_ASSIGN(const std::string table, model_table(*folder));
  return print(options, fmt::format("{}\n{}", table, outlook(*folder, options.model)));
}

}  // namespace

void add_inspect_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App& command = *app.add_subcommand(
      "inspect", "What a model folder holds, whether it will run here, and its decode program");
  add_model_options(command, &options->model);
  command.add_flag("--program", options->program, "List the stages of the decode program");
  command.add_flag("--tasks", options->tasks, "List the tasks of every worker of rank 0, too");
  CLI::Option* graph = command.add_option(
      "--graph", options->graph, "One layer's task graph as DOT; 'outside': what is in no layer");
  command
      .add_option("--svg", options->svg, "With --graph: draw it into this file (needs graphviz)")
      ->needs(graph);
  command.add_option("--width", options->width, "Columns of the decode program")
      ->check(CLI::Range(1U, plan::kMaxWidth))
      ->capture_default_str();
  command.add_option("-o,--output", options->output, "Write to this file instead of the terminal");
  command.callback([options, exit_code] {
    const Status status = inspect(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
