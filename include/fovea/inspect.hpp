// fovea/inspect.hpp - looking at attention: numbers, findings and pictures.
//
//   auto rows = attend.statistics(q, k, fovea::causal);           // entropy and more of each row, O(Lq)
//   auto same = fovea::statistics_of(attend.weights(q, k));       // the same of a matrix that is there
//   auto mean = fovea::summarise_head(rows, batch, head);         // means over a head's rows
//   for (auto& f : fovea::find_unusual_heads(rows)) f.explain();  // collapsed, dead and sink heads
//   auto s = fovea::head_similarity(weights);                     // heads x heads, Jensen-Shannon
//   auto r = fovea::rollout(layers);                              // what the last tokens were mixed from
//
//   auto maps = fovea::maps_of(layers, "title", tokens);          // layers: a vector of weights
//   fovea::write_page(file, maps);                                // an HTML page that answers the mouse
//   fovea::write_svg(file, maps.only(0, 3));                      // one head, or the grid of all
//   fovea::draw(maps);                                            // pixels
//
// Probabilities are batch x heads x Lq x Lk, as attention::weights returns them. Sums are made in double.
#pragma once

#include <fovea/element.hpp>
#include <fovea/inspect/findings.hpp>
#include <fovea/inspect/heads.hpp>
#include <fovea/inspect/maps.hpp>
#include <fovea/inspect/page.hpp>
#include <fovea/inspect/raster.hpp>
#include <fovea/inspect/rollout.hpp>
#include <fovea/inspect/rows.hpp>
#include <fovea/inspect/svg.hpp>
#include <fovea/view.hpp>
