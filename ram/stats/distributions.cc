#include "ram/stats/distributions.h"

#include <boost/math/distributions/beta.hpp>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "ram/base/result.h"

namespace ram {
namespace {

namespace bm = boost::math;
namespace bp = boost::math::policies;

// promote_double<false>: long double differs by platform.
using Policy =
    bp::policy<bp::promote_double<false>, bp::domain_error<bp::ignore_error>,
               bp::pole_error<bp::ignore_error>, bp::overflow_error<bp::ignore_error>,
               bp::evaluation_error<bp::ignore_error>, bp::rounding_error<bp::ignore_error>>;
using Normal = bm::normal_distribution<double, Policy>;
using Student = bm::students_t_distribution<double, Policy>;
using Binomial = bm::binomial_distribution<double, Policy>;
using Beta = bm::beta_distribution<double, Policy>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double NormalCdf(double z) {
  if (std::isinf(z)) return z > 0 ? 1 : 0;
  return bm::cdf(Normal(), z);
}

double NormalQuantile(double p) {
  RAM_CHECK(p >= 0 && p <= 1);
  if (p == 0 || p == 1) return p == 0 ? -kInfinity : kInfinity;
  return bm::quantile(Normal(), p);
}

double StudentCdf(double t, double df) {
  RAM_CHECK(df > 0);
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  return bm::cdf(Student(df), t);
}

double StudentQuantile(double p, double df) {
  RAM_CHECK(df > 0 && p >= 0 && p <= 1);
  if (p == 0 || p == 1) return p == 0 ? -kInfinity : kInfinity;
  return bm::quantile(Student(df), p);
}

double StudentTwoSided(double t, double df) {
  RAM_CHECK(df > 0);
  if (std::isinf(t)) return 0;
  return 2 * bm::cdf(Student(df), -std::abs(t));
}

double BinomialCdf(int64_t k, int64_t n, double p) {
  RAM_CHECK(n >= 0 && p >= 0 && p <= 1);
  if (k < 0) return 0;
  if (k >= n) return 1;
  return bm::cdf(Binomial(static_cast<double>(n), p), static_cast<double>(k));
}

double BetaQuantile(double p, double a, double b) {
  RAM_CHECK(a > 0 && b > 0 && p >= 0 && p <= 1);
  return bm::quantile(Beta(a, b), p);
}

}  // namespace ram
