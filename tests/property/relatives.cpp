// The relatives of attention, in plain words and in double: logits of their own, and weights that are not one softmax.
// own[] of rules, a head each but where it says "of all":
//   sigmoid        the bias, 1 x 1, of all
//   differential   lambda, 1 x 1, of all
//   talking_heads  p_l and p_w, heads x heads, of all: from, to
//   transformer_xl u and v, 1 x dim; r, a row for each distance from -reach to reach
//   cosine         log_scale, 1 x 1
//   decomposed     r_h and r_w, a row for each distance, of all
//   general        w, dim x dim: a key's channel x a query's
//   additive       w_q, w_k (of a key/value head), unseen x dim; b and v, 2 x unseen
//   concat         the same, b being 0
//   location       w, keys x dim, of a key/value head
//   local_m, _p    the distance from the query, or from the middle of the keys, 1 x 1, of all
#include "problem.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fovea_test {
namespace {

/// How far a key is from where a local window stands: what predicts its place is 0, and sigmoid(0) a half.
double distance_of(const problem& p, index_type b, index_type i, index_type j) {
  const double middle = static_cast<double>(p.keys[static_cast<std::size_t>(b)]) / 2;
  return static_cast<double>(j) - (p.rules.of == relative::local_m ? static_cast<double>(i) : middle);
}

constexpr double unseen = -std::numeric_limits<double>::infinity();

/// A sum, and that of its terms' sizes, which a rounded sum is relative to.
struct sized {
  double sum = 0, size = 0;
  void add(double x) { sum += x, size += std::abs(x); }
  void add(double factor, const sized& x) { sum += factor * x.sum, size += std::abs(factor) * x.size; }
};

/// One cell of a call.
struct cell_of {
  const problem& p;
  index_type b, h, i, j;

  double q(index_type c) const { return p.q(b, h, i, c); }
  double k(index_type c) const { return p.k(b, p.kv_head(h), j, c); }
  double own(int n, index_type row, index_type c, bool of_key = false) const {
    return p.rules.own[n].at(0, of_key ? p.kv_head(h) : h, row, c);
  }

  sized product() const {
    sized s;
    for (index_type c = 0; c < p.n.dim; ++c) s.add(q(c) * k(c));
    return s;
  }
  sized with_distances() const {
    const index_type distance = i - j + p.rules.own[2].queries / 2;
    sized s;
    for (index_type c = 0; c < p.n.dim; ++c) {
      const double r = own(2, distance, c);
      s.add(q(c) * k(c)), s.add(own(0, 0, c) * k(c)), s.add(q(c) * r), s.add(own(1, 0, c) * r);
    }
    return s;
  }
  /// With `scale`, which the two tables' products are without.
  sized with_grid(double scale) const {
    const index_type columns = p.rules.columns, down = i / columns - j / columns + p.rules.rows - 1,
                     right = i % columns - j % columns + columns - 1;
    sized s;
    s.add(scale, product());
    for (index_type c = 0; c < p.n.dim; ++c) s.add(q(c) * own(0, down, c)), s.add(q(c) * own(1, right, c));
    return s;
  }
  sized angle() const {
    double of_q = 0, of_k = 0;
    for (index_type c = 0; c < p.n.dim; ++c) of_q += q(c) * q(c), of_k += k(c) * k(c);
    sized s;  // vectors without length have none
    if (of_q * of_k > 0)
      s.add(std::exp(std::min(own(0, 0, 0), std::log(100.0))) / std::sqrt(of_q * of_k), product());
    return s;
  }
  sized through_matrix() const {
    sized s;
    for (index_type a = 0; a < p.n.dim; ++a)
      for (index_type c = 0; c < p.n.dim; ++c) s.add(k(a) * own(0, a, c) * q(c));
    return s;
  }
  sized through_positions() const {
    sized s;
    for (index_type c = 0; c < p.n.dim; ++c) s.add(own(0, j, c, true) * q(c));
    return s;
  }
  /// A unseen unit is as exact as its sum of projections, and as tanh of these: to 6 units in the last place.
  sized network() const {
    sized s;
    for (index_type n = 0; n < p.rules.own[2].keys; ++n) {
      sized z;
      z.add(own(2, 0, n));
      for (index_type c = 0; c < p.n.dim; ++c) z.add(own(0, n, c) * q(c)), z.add(own(1, n, c, true) * k(c));
      const double v = own(2, 1, n);
      s.sum += v * std::tanh(z.sum), s.size += std::abs(v) * (2 + z.size);
    }
    return s;
  }
  sized mixed_logits() const {
    sized s;
    for (index_type from = 0; from < p.n.heads; ++from)
      s.add(p.rules.own[0].at(0, 0, from, h) * p.scale_value(), cell_of{p, b, from, i, j}.product());
    return s;
  }

  /// Before anything is added to it.
  sized logit() const {
    sized s;
    switch (p.rules.of) {
      case relative::transformer_xl:
        s.add(p.scale_value(), with_distances());
        return s;
      case relative::decomposed:
        return with_grid(p.scale_value());
      case relative::cosine:
        return angle();
      case relative::general:
        return through_matrix();
      case relative::additive:
      case relative::concat:
        return network();
      case relative::dot:
      case relative::local_m:
      case relative::local_p:
        return product();
      case relative::location:
        return through_positions();
      case relative::talking_heads:
        return mixed_logits();
      default:
        s.add(p.scale_value(), product());
        return s;
    }
  }
};

/// Weights of one row of one head, its LSE, and the size of its largest logit.
struct row_of {
  std::vector<double> weights, logits;
  double lse = unseen, size = 0;

  row_of(const problem& p, index_type b, index_type h, index_type i, double sign = 1) {
    double largest = unseen, sum = 0;
    for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) {
      logits.push_back(unseen);
      if (!visible(p, b, h, i, j)) continue;
      const sized s = cell_of{p, b, h, i, j}.logit();
      const double more = addend(p, b, h, i, j);
      logits.back() = sign * s.sum + more;
      size = std::max(size, s.size + std::abs(more)), largest = std::max(largest, logits.back());
    }
    for (const double x : logits) sum += weights.emplace_back(x == unseen ? 0 : std::exp(x - largest));
    if (sum > 0) lse = largest + std::log(sum);
    for (double& w : weights) w = sum > 0 ? w / sum : 0;
  }
};

/// Both softmaxes' weights, mixed weights of all heads, or sigmoids; `size` becomes the largest that takes part.
/// Pairs: the weights, and the sum of the sizes of what they are made of.
std::vector<std::pair<double, double>> weights_of(const problem& p, index_type b, index_type h, index_type i,
                                                  double& size) {
  std::vector<std::pair<double, double>> all(static_cast<std::size_t>(p.keys[static_cast<std::size_t>(b)]));
  const auto add = [&](const row_of& row, double factor) {
    size = std::max(size, row.size);
    for (std::size_t j = 0; j < all.size(); ++j)
      all[j].first += factor * row.weights[j], all[j].second += std::abs(factor) * row.weights[j];
  };
  const table& parameters = p.rules.own[0];
  const double own = parameters.x.empty() ? 0 : parameters.x[0];
  if (p.rules.of == relative::talking_heads) {
    for (index_type from = 0; from < p.n.heads; ++from)
      add(row_of(p, b, from, i), p.rules.own[1].at(0, 0, from, h));
    return all;
  }
  row_of row(p, b, h, i);
  if (p.rules.of == relative::sigmoid) {
    row.size += std::abs(own);
    for (std::size_t j = 0; j < all.size(); ++j) row.weights[j] = 1 / (1 + std::exp(-(row.logits[j] + own)));
  }
  for (std::size_t j = 0; p.rules.of == relative::local_p && j < all.size(); ++j)
    row.weights[j] *=
        std::exp(-std::pow(distance_of(p, b, i, static_cast<index_type>(j)) / (own / 2), 2) / 2);
  if (p.rules.of == relative::local_p) row.size += 4;  // the Gaussian's exponent is -2 at most, and rounded
  add(row, 1);
  if (p.rules.of == relative::differential) add(row_of(p, b, h, i, -1), -own);
  return all;
}

}  // namespace

bool in_local_window(const problem& p, index_type b, index_type i, index_type j) {
  const bool local = p.rules.of == relative::local_m || p.rules.of == relative::local_p;
  return !local || std::abs(distance_of(p, b, i, j)) <= p.rules.own[0].x[0];
}

/// Of the LSE: of talking heads and sigmoids that of plain attention.
double own_logit(const problem& p, index_type b, index_type h, index_type i, index_type j) {
  return cell_of{p, b, h, i, j}.logit().sum;
}

expectation textbook_of_relative(const problem& p) {
  const sizes& n = p.n;
  const array results(n.batch, n.heads, n.queries, n.value_dim), rows(n.batch, n.heads, n.queries, 1);
  expectation e{results, rows, results, rows};
  std::fill(e.lse.x.begin(), e.lse.x.end(), unseen);
  problem plain = p;
  if (p.rules.of == relative::talking_heads) plain.rules.of = relative::none;
  for (index_type b = 0; b < n.batch; ++b)
    for (index_type h = 0; h < n.heads; ++h)
      for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
        const row_of of_lse(plain, b, h, i);
        double size = of_lse.size;
        const auto weights = weights_of(p, b, h, i, size);
        e.lse(b, h, i, 0) = of_lse.lse, e.logits(b, h, i, 0) = size;
        for (std::size_t j = 0; j < weights.size(); ++j) {
          if (of_lse.logits[j] == unseen) continue;
          for (index_type c = 0; c < n.value_dim; ++c) {
            const double v = p.v(b, p.kv_head(h), static_cast<index_type>(j), c);
            e.out(b, h, i, c) += weights[j].first * v;
            e.magnitude(b, h, i, c) += weights[j].second * std::abs(v);
          }
        }
      }
  return e;
}

rules with_head_pairs(const rules& r) {
  rules twice = r;
  if (r.keep.heads > 1) twice.keep = table(r.keep.batch, 2 * r.keep.heads, r.keep.queries, r.keep.keys);
  for (index_type b = 0; b < twice.keep.batch; ++b)
    for (index_type h = 0; h < twice.keep.heads; ++h)
      for (index_type i = 0; i < twice.keep.queries; ++i)
        for (index_type j = 0; j < twice.keep.keys; ++j)
          twice.keep.at(b, h, i, j) = r.keep.at(b, h / 2, i, j);
  twice.slopes.clear();
  for (const double slope : r.slopes) twice.slopes.insert(twice.slopes.end(), 2, slope);
  return twice;
}

/// Multiples of 1/8, which are exact in every format.
void make_own(rules& r, const problem& p, std::uint64_t seed) {
  const index_type heads = p.n.heads, dim = p.n.dim, units = 5;
  const index_type reach = std::max<index_type>({p.n.queries, p.n.keys, 1}) - 1;
  random_source random(seed + 77);
  const auto own = [&](int number, index_type of, index_type rows, index_type columns, int least, int most) {
    r.own[number] = table(1, of, rows, columns);
    for (double& x : r.own[number].x) x = static_cast<double>(random.integer(least, most)) / 8;
  };
  switch (r.of) {
    case relative::sigmoid:
      own(0, 1, 1, 1, -40, 8);
      break;
    case relative::differential:
      own(0, 1, 1, 1, 1, 8);
      break;
    case relative::talking_heads:
      own(0, 1, heads, heads, -8, 8), own(1, 1, heads, heads, -8, 8);
      r.keep =
          table(r.keep.batch, 1, r.keep.queries, r.keep.keys);  // what a row sees is the same for all heads
      for (double& x : r.keep.x) x = random.chance(0.7);
      break;
    case relative::transformer_xl:
      own(0, heads, 1, dim, -8, 8), own(1, heads, 1, dim, -8, 8), own(2, heads, 2 * reach + 1, dim, -8, 8);
      break;
    case relative::cosine:
      own(0, heads, 1, 1, 0, 40);
      break;
    case relative::decomposed:
      own(0, 1, 2 * r.rows - 1, dim, -8, 8), own(1, 1, 2 * r.columns - 1, dim, -8, 8);
      break;
    case relative::general:
      own(0, heads, dim, dim, -4, 4);
      break;
    case relative::additive:
    case relative::concat:
      own(0, heads, units, dim, -4, 4), own(1, p.n.kv_heads, units, dim, -4, 4),
          own(2, heads, 2, units, -8, 8);
      for (index_type h = 0; r.of == relative::concat && h < heads; ++h)
        for (index_type c = 0; c < units; ++c) r.own[2].at(0, h, 0, c) = 0;
      break;
    case relative::location:
      own(0, p.n.kv_heads, std::max<index_type>(p.n.keys, 1), dim, -8, 8);
      break;
    case relative::local_m:
    case relative::local_p:
      own(0, 1, 1, 1, 1, 1), r.own[0].x[0] = static_cast<double>(random.integer(1, 60));
      break;
    default:
      break;
  }
}

}  // namespace fovea_test
