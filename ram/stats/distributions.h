#pragma once

// Distribution functions and quantiles: Boost.Math in plain doubles, so that every platform gives
// the same numbers up to its math library. Good to 1e-12 relative; nothing throws.

#include <cstdint>

namespace ram {

// P(Z <= z), and the z with P(Z <= z) = p; -inf and inf at p = 0 and 1.
double NormalCdf(double z);
double NormalQuantile(double p);

// Student's t with `df` > 0 degrees of freedom, which need not be whole. `t` may be infinite.
double StudentCdf(double t, double df);
double StudentQuantile(double p, double df);
// P(|T| >= |t|), exact in the tail.
double StudentTwoSided(double t, double df);

// P(X <= k) for X ~ Binomial(n, p); 0 for k < 0, 1 for k >= n.
double BinomialCdf(int64_t k, int64_t n, double p);
// The x in [0, 1] with I_x(a, b) = p.
double BetaQuantile(double p, double a, double b);

}  // namespace ram
