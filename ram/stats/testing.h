#pragma once

// What the tests of ram/stats share.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "ram/base/random.h"
#include "ram/stats/distributions.h"

namespace ram {

// Columns of a CSV file of plain numbers, by name.
inline std::map<std::string, std::vector<double>> ReadColumns(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  std::vector<std::string> names;
  for (std::istringstream cells(line); std::getline(cells, line, ',');) names.push_back(line);
  std::map<std::string, std::vector<double>> columns;
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    for (const std::string& name : names) {
      std::getline(cells, line, ',');
      columns[name].push_back(std::stod(line));
    }
  }
  return columns;
}

// Standard normal numbers, one stream per sample.
class NormalStream {
 public:
  NormalStream(uint64_t seed, uint64_t stream) : random_(seed, stream) {}
  double Next() {
    const double radius = std::sqrt(-2 * std::log(random_.Uniform()));
    return radius * std::cos(2 * M_PI * random_.Uniform());
  }
  std::vector<double> Sample(size_t n) {
    std::vector<double> sample(n);
    for (double& value : sample) value = Next();
    return sample;
  }

 private:
  RandomStream random_;
};

}  // namespace ram
