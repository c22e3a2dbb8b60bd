#pragma once

// What verify and inspect say about a finished model directory.

#include <string>

#include "ram/base/json.h"
#include "ram/report/table.h"
#include "ram/writer/verify_model.h"

namespace ram::cli {

std::string VerifiedText(const VerifiedModel& model, const Style& style);
OrderedJson VerifiedJson(const VerifiedModel& model);

}  // namespace ram::cli
