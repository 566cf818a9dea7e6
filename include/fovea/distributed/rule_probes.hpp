// fovea/distributed/rule_probes.hpp - what masks, scores and a sink are made of, compared between ranks.
#pragma once

#include <fovea/distributed/ring_call.hpp>
#include <fovea/list_view.hpp>
#include <fovea/reference.hpp>

#include <functional>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// A number made of others, which differs where they do (FNV-1a, 8 bytes at a time; each is mixed first, as a
/// product keeps a change of the highest bit there: two changes of sign would cancel).
class digest {
 public:
  void add(auto x) noexcept { sum_ = (sum_ ^ mixed(static_cast<std::uint64_t>(x))) * 1099511628211u; }
  std::int64_t value() const noexcept { return static_cast<std::int64_t>(sum_ >> 1); }

 private:
  /// The finaliser of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
  /// generators", OOPSLA 2014).
  static std::uint64_t mixed(std::uint64_t x) noexcept {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u, x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  std::uint64_t sum_ = 14695981039346656037u;
};

/// Numbers that all ranks must have alike, and what number i is called.
struct probe {
  std::string name;
  index_type count;
  std::function<double(index_type)> number;
  std::function<std::string(index_type)> place;

  /// All of few; of many some, evenly spread: a call must not take longer to compare its bias than to use it.
  static constexpr index_type most = 1 << 16;
  index_type samples() const noexcept { return std::min(count, most); }
  index_type sample(index_type i) const noexcept {
    return count <= most
               ? i
               : static_cast<index_type>(static_cast<double>(i) / most * static_cast<double>(count));
  }
  std::int64_t digest_of(range samples) const {
    digest all;
    for (index_type i = samples.first; i < samples.last; ++i)
      all.add(std::bit_cast<std::uint64_t>(number(sample(i))));
    return all.value();
  }
};

/// The lists and matrices that masks, scores and a sink read, and what masks and scores, functions and tables
/// of a user's too, say of cells here and there.
template <class Rules>
class rule_probes {
 public:
  rule_probes(const Rules& all, const ring_sizes& sizes, bool in_cache)
      : rules_(all), sizes_(sizes), in_cache_(in_cache) {
    const auto operand = [this](const char* name, const auto& x) { add(name, x); };
    each_operand_of(all.rules.mask, operand);
    all.rules.scores.each([&](const auto& score) { each_operand_of(score, operand); });
    each_operand_of(all.sink, operand);
    using rules = typename Rules::rules_type;
    if (!has_cells()) return;
    if constexpr (!shows_all<std::remove_cvref_t<decltype(all.rules.mask)>>)
      probes_.push_back({"whether the masks show", cells, [this](index_type i) { return shown(i); },
                         [this](index_type i) { return name_of(i); }});
    if constexpr (rules::natural)
      probes_.push_back({"what the scores make of a logit of 1 at", cells,
                         [this](index_type i) { return scored(i); },
                         [this](index_type i) { return name_of(i); }});
  }

  /// Numbers that differ where kinds of rules, and where their numbers do.
  std::int64_t kinds() const {
    digest all;
    for (const probe& p : probes_)
      for (const char letter : p.name) all.add(letter);
    return all.value();
  }
  std::int64_t numbers() const {
    digest all;
    for (const probe& p : probes_) all.add(p.count), all.add(p.digest_of({0, p.samples()}));
    return all.value();
  }

  /// Throws, on all ranks the same, where numbers() differ but kinds() do not: looks for the first that does.
  void settle(const communicator& processes) const {
    std::vector<std::int64_t> own;
    for (const probe& p : probes_) own.push_back(p.count), own.push_back(p.digest_of({0, p.samples()}));
    const numbers_of_ranks all(processes, own);
    for (int r = 1; r < processes.ranks(); ++r)
      for (std::size_t i = 0; i < probes_.size(); ++i) {
        const auto at = static_cast<index_type>(2 * i);
        if (all.at(r, at) != all.at(0, at))
          reject(probes_[i].name, " has ", all.at(r, at), " numbers on rank ", r, " but ", all.at(0, at),
                 " on rank 0");
        if (all.at(r, at + 1) != all.at(0, at + 1)) search(processes, probes_[i], r);
      }
  }

 private:
  static constexpr index_type cells = 64;
  struct cell_of_call {
    index_type b, h, query, key;
  };

  [[noreturn]] static void search(const communicator& processes, const probe& p, int rank) {
    range left{0, p.samples()};
    while (left.size() > 1) {
      const range half{left.first, left.first + left.size() / 2};
      const std::int64_t own[] = {p.digest_of(half)};
      const numbers_of_ranks all(processes, own);
      left = all.at(rank, 0) != all.at(0, 0) ? half : range{half.last, left.last};
    }
    const index_type at = p.sample(left.first);
    const std::int64_t own[] = {std::bit_cast<std::int64_t>(p.number(at))};
    const numbers_of_ranks all(processes, own);
    const auto value = [&](int r) { return std::bit_cast<double>(std::int64_t{all.at(r, 0)}); };
    reject(p.name, " ", p.place(at), " is ", value(rank), " on rank ", rank, " but ", value(0), " on rank 0");
  }

  template <class T>
  void add(const char* name, const list_view<T>& list) {
    probes_.push_back({name, list.size(), [list](index_type i) { return static_cast<double>(list[i]); },
                       [](index_type i) { return "[" + std::to_string(i) + "]"; }});
  }
  template <class E>
  void add(const char* name, const tensor_view<E>& x) {
    const auto at = [x](index_type i) {
      const index_type c = i % x.dim, t = i / x.dim % x.tokens, h = i / x.dim / x.tokens % x.heads;
      return std::array<index_type, 4>{i / x.dim / x.tokens / x.heads, h, t, c};
    };
    probes_.push_back({name, x.batch * x.heads * x.tokens * x.dim,
                       [x, at](index_type i) {
                         const auto [b, h, t, c] = at(i);
                         if constexpr (std::is_integral_v<std::remove_const_t<E>>)
                           return static_cast<double>(x(b, h, t, c));
                         else
                           return load_element<double>(x(b, h, t, c));
                       },
                       [at](index_type i) {
                         const auto [b, h, t, c] = at(i);
                         return "[" + std::to_string(b) + "][" + std::to_string(h) + "][" +
                                std::to_string(t) + "][" + std::to_string(c) + "]";
                       }});
  }

  bool has_cells() const noexcept {
    for (index_type b = 0; b < sizes_.batches; ++b)
      if (sizes_.place_of(b).queries <= 0 || sizes_.place_of(b).keys <= 0) return false;
    return sizes_.batches > 0 && sizes_.heads > 0;
  }
  /// Half of them anywhere, half near the diagonal, where masks change.
  cell_of_call cell_number(index_type i) const noexcept {
    std::uint64_t bits = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u + 1;
    const auto below = [&](index_type n) {
      bits ^= bits >> 29, bits *= 0xbf58476d1ce4e5b9u, bits ^= bits >> 32;
      return static_cast<index_type>(bits % static_cast<std::uint64_t>(n));
    };
    const index_type b = below(sizes_.batches), h = below(sizes_.heads);
    const slice_place at = sizes_.place_of(b);
    const index_type query = below(at.queries), apart = index_type(1) << (i / 2 % 8), last = at.keys - 1;
    const index_type near = query + (in_cache_ ? at.keys - at.queries : 0) + below(2 * apart + 1) - apart;
    return {b, h, query, i % 2 == 0 ? below(at.keys) : std::clamp<index_type>(near, 0, last)};
  }
  template <class F>
  double asked(index_type i, const F& f) const {
    const auto [b, h, query, key] = cell_number(i);
    place at = sizes_.place_of(b).whole(h);
    at.in_cache = in_cache_;
    return f(rules_.rules.bind(at), cell{query, key});
  }
  double shown(index_type i) const {
    return asked(i, [](const auto& bound, const cell& c) { return visible_at(bound.mask, c) ? 1.0 : 0.0; });
  }
  double scored(index_type i) const {
    return asked(i, [](const auto& bound, const cell& c) {
      // Processors of different kinds may differ in the last bits.
      int exponent = 0;
      const double fraction = std::frexp(static_cast<double>(bound.score(1.0, c)), &exponent);
      return std::ldexp(std::rint(fraction * 0x1p24), exponent - 24);
    });
  }
  std::string name_of(index_type i) const {
    const auto [b, h, query, key] = cell_number(i);
    return "query " + std::to_string(query) + ", key " + std::to_string(key) + ", head " + std::to_string(h) +
           ", sequence " + std::to_string(b);
  }

  const Rules& rules_;
  const ring_sizes& sizes_;
  bool in_cache_;
  std::vector<probe> probes_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
