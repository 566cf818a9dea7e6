// tests/laws/include_laws.cpp - who may include whom.
//
//   config, index, lists  <-  view | element | mask | score | roles | executor  <-  kernel  <-  plan  <-  API
//          L0                                    L1                           L2         L3        L4
//
//   inside kernel:  scratch, arch <- tile <- operand <- rules <- softmax, problem <- forward <- sweep
//                                                                                 <- backward
#include "headers.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>

namespace fovea_test {
namespace {

const std::set<std::string> base = {"config.hpp", "index.hpp", "lifetime.hpp", "list_view.hpp",
                                    "value_list.hpp"};
const std::set<std::string> parts_of_layer_1 = {"view", "element", "mask", "score", "roles", "executor"};

/// Where Eigen may be included, by law 2: its own views, and the layers that multiply weight matrices.
const std::set<std::string> eigen_users = {"view/eigen.hpp", "view/eigen_tensor.hpp", "multi_head.hpp"};

/// What kernel/ and plan/ may know of layer 1 beside X/concept.hpp: pointer, sizes and strides, which every
/// layout becomes.
const std::set<std::string> shared_by_all_layouts = {"view/matrix.hpp", "view/overlap.hpp",
                                                     "view/sequences.hpp"};

std::string folder_of(const std::string& path) {
  const auto slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

int layer_of(const std::string& path) {
  if (base.contains(path)) return 0;
  const std::string folder = folder_of(path);
  if (parts_of_layer_1.contains(folder)) return 1;
  return folder == "kernel" ? 2 : folder == "plan" ? 3 : 4;
}

/// The rooms of kernel/, each with those that it may include beside itself.
const std::map<std::string, std::set<std::string>> rooms_below = {
    {"scratch.hpp", {}},
    {"arch", {}},
    {"tile", {"arch"}},
    {"operand", {"scratch.hpp", "arch", "tile"}},
    {"rules", {"scratch.hpp", "arch", "tile", "operand"}},
    {"softmax.hpp", {"arch", "tile", "operand", "rules"}},
    {"problem.hpp", {"scratch.hpp", "arch", "tile", "operand", "rules", "softmax.hpp"}},
    {"forward", {"scratch.hpp", "arch", "tile", "operand", "rules", "softmax.hpp", "problem.hpp"}},
    {"backward", {"scratch.hpp", "arch", "tile", "operand", "rules", "softmax.hpp", "problem.hpp"}},
    {"sweep", {"scratch.hpp", "arch", "tile", "operand", "rules", "softmax.hpp", "problem.hpp", "forward"}}};

/// forward of kernel/forward/x.hpp, softmax.hpp of kernel/softmax.hpp, arch of its umbrella kernel/arch.hpp.
std::string room_of(const std::string& path) {
  if (path == "kernel/arch.hpp") return "arch";
  const auto first = path.find('/') + 1;
  return path.substr(first, path.find('/', first) - first);
}

/// Whether `path` is an X.hpp beside a folder X/ that a part of the library at `from` belongs to; the API's own
/// umbrellas are for users alone.
bool is_umbrella_of(const std::string& from, const std::string& path, const std::vector<header>& headers) {
  const std::string folder = path.substr(0, path.rfind('.')) + "/";
  if (std::none_of(headers.begin(), headers.end(),
                   [&](const header& h) { return h.path.starts_with(folder); }))
    return false;
  const bool top_level = path.find('/') == std::string::npos;
  return from.starts_with(folder) || (top_level && from.find('/') != std::string::npos);
}

using includes = std::vector<std::string>;  // as written, with their < > or " "

includes includes_of(const header& h) {
  static const std::regex include(R"(^\s*#\s*include\s*(<[^>]*>|"[^"]*").*)");
  includes found;
  std::smatch match;
  for (const std::string& line : h.lines)
    if (std::regex_match(line, match, include)) found.push_back(match[1]);
  return found;
}

/// Why `from` must not include fovea's `to`, or nothing.
std::string forbidden_within(const std::string& from, const std::string& to,
                             const std::vector<header>& headers) {
  const int above = layer_of(from), below = layer_of(to);
  const bool kernel_or_plan = above == 2 || above == 3;
  if (std::none_of(headers.begin(), headers.end(), [&](const header& h) { return h.path == to; }))
    return "which does not exist";
  if (below > above)
    return "law 1: layer " + std::to_string(below) + " stands above " + std::to_string(above);
  if (above == 1 && below == 1 && folder_of(from) != folder_of(to))
    return "law 1: siblings of layer 1 do not know each other";
  if (is_umbrella_of(from, to, headers)) return "law 1: a part never includes an umbrella";
  if (folder_of(to) == "inspect" && folder_of(from) != "inspect" && from != "inspect.hpp")
    return "law 1: pictures (inspect/) stand above all else";
  if (above == 2 && below == 2) {
    const std::string room = room_of(from), other = room_of(to);
    const auto known = rooms_below.find(room);
    if (known == rooms_below.end()) return "law 1: " + room + " is no room of kernel/";
    if (room != other && !known->second.contains(other))
      return "law 1: in kernel/, " + room + " does not stand above " + other;
  }
  if (kernel_or_plan && below == 1 && to != folder_of(to) + "/concept.hpp" &&
      !shared_by_all_layouts.contains(to))
    return "law 3: kernel/ and plan/ know concepts, nothing concrete";
  return {};
}

/// Why `from` must not include another library's `to`, or nothing.
std::string forbidden_outside(const std::string& from, const std::string& to) {
  if (to.starts_with("Eigen/") || to.starts_with("unsupported/Eigen/")) {
    if (eigen_users.contains(from)) return {};
    return "law 2: Eigen stops at view/eigen.hpp";
  }
  if (to == "mpi.h" && folder_of(from) != "distributed") return "MPI stops at distributed/";
  if (from == "config.hpp" && to == "xsimd/config/xsimd_config.hpp") return {};  // its version, no register
  if (to.starts_with("xsimd/") && folder_of(from) != "kernel")
    return "law 4: registers are the business of kernel/";
  const bool of_an_isa = to.find("intrin.h") != std::string::npos || to == "arm_neon.h" || to == "arm_sve.h";
  if (of_an_isa && !from.starts_with("kernel/arch/"))
    return "law 4: an instruction set is a file in kernel/arch/";
  return {};
}

/// A header that reaches itself, as "a -> b -> a", or nothing.
std::string find_cycle(const std::map<std::string, includes>& graph) {
  std::set<std::string> done;
  std::vector<std::string> trail;
  const std::function<std::string(const std::string&)> visit = [&](const std::string& path) -> std::string {
    const bool again = std::find(trail.begin(), trail.end(), path) != trail.end();
    trail.push_back(path);
    if (again) {
      std::string text;
      for (const std::string& step : trail) text += (text.empty() ? "" : " -> ") + step;
      return text;
    }
    const auto at = graph.find(path);
    if (at != graph.end() && !done.contains(path))
      for (const std::string& next : at->second)
        if (std::string cycle = visit(next); !cycle.empty()) return cycle;
    trail.pop_back();
    done.insert(path);
    return {};
  };
  for (const auto& [path, unused] : graph)
    if (std::string cycle = visit(path); !cycle.empty()) return cycle;
  return {};
}

}  // namespace

std::vector<header> read_headers(const std::string& directory) {
  std::vector<header> headers;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    header h{std::filesystem::relative(entry.path(), directory).generic_string(), {}};
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) h.lines.push_back(line);
    headers.push_back(std::move(h));
  }
  std::sort(headers.begin(), headers.end(), [](const header& a, const header& b) { return a.path < b.path; });
  return headers;
}

std::vector<std::string> broken_include_laws(const std::vector<header>& headers) {
  std::vector<std::string> broken;
  std::map<std::string, includes> graph;
  for (const header& h : headers)
    for (const std::string& written : includes_of(h)) {
      const std::string name = written.substr(1, written.size() - 2), prefix = "fovea/";
      const bool ours = name.starts_with(prefix);
      std::string why = ours ? forbidden_within(h.path, name.substr(prefix.size()), headers)
                             : forbidden_outside(h.path, name);
      if (written[0] == '"') why = "in quotes: write <fovea/...>";
      if (!why.empty()) broken.push_back(h.path + " includes " + name + ", " + why);
      if (ours) graph[h.path].push_back(name.substr(prefix.size()));
    }
  if (const std::string cycle = find_cycle(graph); !cycle.empty())
    broken.push_back(cycle + ", law 1: a circle");
  return broken;
}

}  // namespace fovea_test
