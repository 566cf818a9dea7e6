// fovea/inspect/findings.hpp - heads out of the ordinary: collapsed ones, dead ones, sinks.
//
//   for (const auto& found : fovea::find_unusual_heads(attend.statistics(q, k, fovea::causal)))
//     log << found.explain() << "\n";
#pragma once

#include <fovea/inspect/heads.hpp>

#include <string>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// collapsed  Nearly all weight of nearly all rows is on single keys: the mean normalised entropy is below
///            `collapsed_entropy`. In training it goes before divergence (Zhai et al., "Stabilizing
///            Transformer Training by Preventing Attention Entropy Collapse", arXiv:2303.06296); in a trained
///            model heads that copy a neighbour are like this and healthy.
/// dead       The head chooses nothing: its mean normalised entropy is above `dead_entropy`, and it adds the
///            mean of what is visible; or its mean mass is below `dead_mass`, and a sink takes all.
/// sink       Most weight goes to one and the same key: favourite_weight (inspect/heads.hpp) is above
///            `sink_weight`; often the first token (Xiao et al., "Efficient Streaming Language Models with
///            Attention Sinks", arXiv:2309.17453).
enum class head_trait { collapsed, dead, sink };

struct finding_options {
  double collapsed_entropy = 0.05;  // of the normalised entropy, 0 to 1
  double dead_entropy = 0.99;       // of the normalised entropy
  double dead_mass = 0.01;          // of the mass
  double sink_weight = 0.5;         // a row
  index_type least_rows = 4;        // heads with fewer rows that have a choice are not judged
};

/// One head, what it is, and the number that says so.
struct finding {
  head_trait trait;
  index_type batch, head;
  double value, threshold;
  index_type key = -1;  // of a sink: the key

  std::string explain() const {
    const auto n = [](auto x) { return std::to_string(x); };
    const std::string where = "sequence " + n(batch) + ", head " + n(head);
    if (trait == head_trait::sink)
      return where + " is a sink: " + n(value) + " of a row's weight goes to key " + n(key) + " (above " +
             n(threshold) + ")";
    if (trait == head_trait::collapsed)
      return where + " is collapsed: its normalised entropy is " + n(value) + " (below " + n(threshold) + ")";
    return where + " is dead: its " +
           (value > threshold ? "normalised entropy is " + n(value) + " (above "
                              : "mass is " + n(value) + " (below ") +
           n(threshold) + ")";
  }
};

/// The heads out of the ordinary, by sequence and head; a head may have several traits. One with a NaN has
/// none. Cost O(batch heads Lq). Throws std::invalid_argument for a threshold beyond 0 to 1.
inline std::vector<finding> find_unusual_heads(const row_statistics& rows,
                                               const finding_options& options = {}) {
  const auto check = [](const char* name, double x) {
    if (!(x >= 0 && x <= 1)) reject("the option ", name, " is ", x, ", not within 0 and 1");
  };
  check("collapsed_entropy", options.collapsed_entropy), check("dead_entropy", options.dead_entropy);
  check("dead_mass", options.dead_mass), check("sink_weight", options.sink_weight);
  std::vector<finding> found;
  for (index_type b = 0; b < rows.batch(); ++b)
    for (index_type h = 0; h < rows.heads(); ++h) {
      const head_statistics head = summarise_head(rows, b, h);
      if (head.rows < options.least_rows) continue;
      const double entropy = head.normalised_entropy;
      if (head.mass < options.dead_mass)
        found.push_back({head_trait::dead, b, h, head.mass, options.dead_mass});
      else if (entropy < options.collapsed_entropy)
        found.push_back({head_trait::collapsed, b, h, entropy, options.collapsed_entropy});
      else if (entropy > options.dead_entropy)
        found.push_back({head_trait::dead, b, h, entropy, options.dead_entropy});
      if (head.favourite_weight > options.sink_weight)
        found.push_back({head_trait::sink, b, h, head.favourite_weight, options.sink_weight, head.favourite});
    }
  return found;
}

FOVEA_NAMESPACE_END
