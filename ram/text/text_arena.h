#pragma once

#include <deque>
#include <string>
#include <string_view>

namespace ram {

// Keeps rewritten text where it is until the text is encoded, so that pieces can be views.
class TextArena {
 public:
  std::string_view Keep(std::string text) { return texts_.emplace_back(std::move(text)); }

 private:
  std::deque<std::string> texts_;
};

}  // namespace ram
