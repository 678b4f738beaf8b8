// The archive of `ultraspeed report`: the JSON files of bench runs and a summary of them, which
// anybody can compute again. docs/benchmarks.md describes it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/provenance.h"
#include "apps/tar.h"
#include "base/result.h"

namespace ultraspeed::apps {

// What checking a run or an archive found.
struct ReportCheck {
  size_t num_runs = 0;
  size_t num_values = 0;   // figures that follow, and raw numbers
  std::string difference;  // the first that does not, as a sentence; "": none
};

// The JSON of one bench run (of `bench kernels` or `bench decode`). Errors: kInvalidData for text
// that is no such run.
Result<ReportCheck> check_run(const std::string& text, const std::string& label);

// The schema of a run's JSON, "" for other text.
std::string run_schema(const std::string& text);

// Packs runs: "NAME.json" and their text. REQUIRES: check_run() found no difference in any.
// Errors: those of check_run().
Result<std::string> make_report(const std::vector<TarFile>& runs, const Provenance& made_by);

// Reads an archive again and computes all of it from the raw numbers of its runs.
// Errors: kInvalidData for what is no such archive.
Result<ReportCheck> check_report(std::string_view archive, const std::string& label);

}  // namespace ultraspeed::apps
