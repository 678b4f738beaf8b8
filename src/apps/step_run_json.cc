// `bench step --json` and reading it back.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/json_object.h"
#include "apps/step_run.h"

namespace ultraspeed::apps {
namespace {

using cuda::StageSamples;
using nlohmann::ordered_json;

void add_reading(const Reading& reading, ordered_json* json) {
  (*json)["gb_s"] = reading.gb_s;
  (*json)["of_ceiling"] = reading.of_ceiling;
}

ordered_json stage_json(const StageSamples& stage, const cuda::StepBench& bench) {
  ordered_json json = {{"name", stage.name},
                       {"shape", stage.shape},
                       {"operation", program::opcode_name(stage.opcode)},
                       {"count", stage.count},
                       {"bytes", stage.bytes},
                       {"launches", stage.num_launches},
                       {"us", stage.us}};
  add_spread("", spread_of(stage.us), &json);
  add_reading(stage_reading(stage, bench), &json);
  if (!stage.general_reason.empty()) json["general_reason"] = stage.general_reason;
  return json;
}

ordered_json op_json(const OpFigures& op) {
  ordered_json json = {{"operation", program::opcode_name(op.opcode)},
                       {"stages", op.count},
                       {"us", op.reading.us},
                       {"bytes", op.reading.bytes}};
  add_reading(op.reading, &json);
  json["share"] = op.share;
  return json;
}

ordered_json whole_step_json(const StepRun& run, const StepFigures& figures) {
  ordered_json json = {{"us", run.bench.step_us}};
  add_spread("", figures.us, &json);
  json["bytes"] = figures.reading.bytes;
  add_reading(figures.reading, &json);
  json["sum_us"] = figures.sum_us;
  json["of_sum"] = figures.of_sum;
  json["tokens_per_second"] = ordered_json::array();
  for (const auto& [length, rate] : figures.tokens_per_second) {
    json["tokens_per_second"].push_back({{"accepted", length}, {"rate", rate}});
  }
  return json;
}

Result<StageSamples> read_stage(const JsonObject& json) {
  constexpr auto kOpcodes = [] {
    std::array<program::Opcode, program::kNumOpcodes> opcodes = {};
    for (size_t i = 0; i < opcodes.size(); ++i) opcodes[i] = static_cast<program::Opcode>(i);
    return opcodes;
  }();
  StageSamples stage;
  US_ASSIGN(stage.name, json.text("name"));
  US_ASSIGN(stage.shape, json.text("shape"));
  US_ASSIGN(stage.opcode, read_choice(json, "operation", kOpcodes, program::opcode_name));
  US_ASSIGN(stage.count, json.small_number("count"));
  if (stage.count == 0) return json.error("count", "expected more than 0");
  US_ASSIGN(stage.bytes, json.number("bytes"));
  US_ASSIGN(stage.num_launches, json.small_number("launches"));
  US_ASSIGN(stage.us, json.samples("us"));
  if (json.has("general_reason")) {
    US_ASSIGN(stage.general_reason, json.text("general_reason"));
  }
  return stage;
}

}  // namespace

ordered_json step_json(const StepRun& run) {
  const StepFigures figures = step_figures(run);
  ordered_json json = {{"schema", kStepRunSchema},
                       {"version", run.made_by.version},
                       {"commit", run.made_by.commit},
                       {"command", run.made_by.command}};
  add_shape(run, &json);
  json["positions"] = run.positions;
  json["activations"] = program::activations_name(run.activations);
  json["kv_cache"] = program::kv_cache_type_name(run.kv_cache);
  if (run.all_reduce_ns != 0) json["all_reduce_ns"] = run.all_reduce_ns;
  add_gpu(run.bench, &json);
  json["data"] = run.bench.data;
  json["step"] = whole_step_json(run, figures);
  if (!run.bench.draft_us.empty()) {
    ordered_json draft = {{"us", run.bench.draft_us}};
    add_spread("", spread_of(run.bench.draft_us), &draft);
    json["draft"] = std::move(draft);
  }
  json["operations"] = ordered_json::array();
  for (const OpFigures& op : figures.ops) json["operations"].push_back(op_json(op));
  json["stages"] = ordered_json::array();
  for (const StageSamples& stage : run.bench.stages) {
    json["stages"].push_back(stage_json(stage, run.bench));
  }
  return json;
}

Result<StepRun> read_step_run(const ordered_json& json, const std::string& label) {
  StepRun run;
  US_ASSIGN(const JsonObject top, JsonObject::of(json, label));
  US_ASSIGN(run.made_by, read_provenance(top));
  US_ASSIGN(static_cast<BenchShape&>(run), read_shape(top));
  US_ASSIGN(run.positions, top.small_number("positions"));
  US_ASSIGN(run.activations,
            read_choice(top, "activations", program::kAllActivations, program::activations_name));
  US_ASSIGN(run.kv_cache,
            read_choice(top, "kv_cache", program::kAllKvCacheTypes, program::kv_cache_type_name));
  if (top.has("all_reduce_ns")) {
    US_ASSIGN(run.all_reduce_ns, top.small_number("all_reduce_ns"));
  }
  US_ASSIGN(static_cast<cuda::MeasuredGpu&>(run.bench), read_gpu(top));
  US_ASSIGN(run.bench.data, top.text("data"));
  US_ASSIGN(const JsonObject step, top.object("step"));
  US_ASSIGN(run.bench.step_us, step.samples("us"));
  if (top.has("draft")) {
    US_ASSIGN(const JsonObject draft, top.object("draft"));
    US_ASSIGN(run.bench.draft_us, draft.samples("us"));
  }
  US_ASSIGN(const auto stages, top.objects("stages"));
  if (stages.empty()) return top.error("stages", "expected one or more");
  for (const JsonObject& stage : stages) {
    US_ASSIGN(StageSamples samples, read_stage(stage));
    run.bench.stages.push_back(std::move(samples));
  }
  return run;
}

}  // namespace ultraspeed::apps
