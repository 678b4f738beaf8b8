// A plan report for people and for programs.
#pragma once

#include <string>

#include "plan/report.h"

namespace ultraspeed::apps {

// Tables with their assumptions; ends with a newline.
std::string plan_tables(const plan::PlanReport& report);

// One JSON object of the same figures in bytes, seconds and counts; no newline.
std::string plan_json(const plan::PlanReport& report);

}  // namespace ultraspeed::apps
