// onnx_bf16_bound ONNX_CASE CASES OUT: the standard's Attention cases in bfloat16 by the library's own call, held to
// its bound against the reference in double. Keys and values that no query may read are NaN.
#include "attention_operator.hpp"

#include <fovea/reference.hpp>

#include <cmath>
#include <cstdlib>
#include <iostream>

namespace fs = std::filesystem;
using fovea::index_type;

namespace {

/// A copy of a case where what lies beyond nonpad_kv_seqlen is NaN; how many elements that are.
index_type copy_with_nan(const onnx::case_file& c, const fs::path& from, const fs::path& to) {
  fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  if (!onnx::has_in(c, 6)) return 0;
  const auto lengths = onnx::numbers(onnx::operand_in(c, 6));
  index_type count = 0;
  for (const std::size_t i : {1, 2}) {
    auto t = onnx::operand_in(c, i);
    if (t.shape.size() != 4)
      throw std::runtime_error(c.name + ": keys of rank 3 are not expected beside lengths");
    auto* element = reinterpret_cast<std::uint16_t*>(t.bytes.data());
    for (index_type b = 0; b < t.shape[0]; ++b)
      for (index_type h = 0; h < t.shape[1]; ++h)
        for (index_type k = 0; k < t.shape[2]; ++k)
          for (index_type d = 0; d < t.shape[3]; ++d, ++element)
            if (static_cast<double>(k) >= lengths[static_cast<std::size_t>(b)]) *element = 0x7fc0, ++count;
    std::ofstream(to / t.file, std::ios::binary)
        .write(t.bytes.data(), static_cast<std::streamsize>(t.bytes.size()));
  }
  return count;
}

/// How many elements of output 0 are farther from the exact result than 3 u P|V| (4 + A), and half a step of bf16.
index_type misses(const onnx::case_file& c, const fs::path& result) {
  const onnx::attention_call call(c, false);
  const auto q = onnx::heads_of<fovea::bf16>(c, 0, "q_num_heads");
  const auto joined = [&](std::size_t past, std::size_t now) {
    using view = std::optional<fovea::tensor_view<const fovea::bf16>>;
    return onnx::joined<double>(onnx::has_in(c, past) ? onnx::heads_of<fovea::bf16>(c, past, "") : view(),
                                onnx::heads_of<fovea::bf16>(c, now, "kv_num_heads"));
  };
  const auto k = joined(4, 1), v = joined(5, 2);
  const bool has_mask = onnx::has_in(c, 3), boolean = has_mask && onnx::operand_in(c, 3).dtype == "bool";
  const auto keep = onnx::mask_table<std::uint8_t>(c, k.tokens(), boolean, 1, 0);
  const auto bias = onnx::mask_table<double>(c, k.tokens(), has_mask && !boolean, 0, -INFINITY);
  auto wanted = c.out.at(0);
  const bool rank3 = wanted.shape.size() == 3;
  wanted.bytes = onnx::read_bytes(result, static_cast<std::size_t>(wanted.count()) * 2);
  const auto got = onnx::numbers(wanted);
  index_type count = 0;
  for (index_type b = 0; b < q.batch; ++b) {
    fovea::tensor<double> q1(1, q.heads, q.tokens, q.dim);
    for (index_type h = 0; h < q.heads; ++h)
      for (index_type t = 0; t < q.tokens; ++t)
        for (index_type d = 0; d < q.dim; ++d) q1(0, h, t, d) = static_cast<double>(q(b, h, t, d));
    const index_type before = onnx::has_in(c, 4) ? onnx::operand_in(c, 4).shape[2] : 0;
    onnx::with_modifiers<double>(
        call, b, q.tokens, k.tokens(), before, keep, bias,
        [&](const auto& cap, const auto& add, const auto& mask) {
          const fovea::reference_options options{q.heads, k.heads(), call.scale};
          const auto exact =
              fovea::reference(q1, onnx::entry(k, b), onnx::entry(v, b), options, cap, add, mask);
          for (index_type h = 0; h < q.heads; ++h)
            for (index_type t = 0; t < q.tokens; ++t)
              for (index_type d = 0; d < v.dim(); ++d) {
                const index_type at = rank3 ? ((b * q.tokens + t) * q.heads + h) * v.dim() + d
                                            : ((b * q.heads + h) * q.tokens + t) * v.dim() + d;
                const double want = exact.out(0, h, t, d), has = got[static_cast<std::size_t>(at)];
                const double computed =
                    3 * 0x1p-24 * exact.magnitude(0, h, t, d) * (4 + exact.logits(0, h, t, 0)) + 0x1p-120;
                const double bound = computed + 0x1p-8 * (std::abs(want) + computed);
                count += !(std::abs(has - want) <= bound);
              }
        });
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const fs::path runner = argv[1], cases = argv[2], out = argv[3];
  if (!fs::is_directory(cases)) {
    std::cout << "SKIPPED: there are no cases in " << cases << "\n";
    return 77;
  }
  fs::remove_all(out);
  int passed = 0, failed = 0;
  index_type unread = 0;
  for (const auto& folder : fs::directory_iterator(cases)) {
    const auto c = onnx::read_case(folder.path());
    if (c.op != "Attention" || onnx::operand_in(c, 0).dtype != "bfloat16") continue;
    const fs::path copy = out / "cases" / c.name;
    fs::create_directories(copy.parent_path());
    unread += copy_with_nan(c, folder.path(), copy);
    const std::string command =
        "'" + runner.string() + "' --library --out '" + out.string() + "' '" + copy.string() + "'";
    if (std::system(command.c_str()) != 0) return 1;
    const index_type missed = misses(c, out / c.name / ("output_0_" + c.out.at(0).name + ".bin"));
    std::cout << c.name << ": " << missed << " elements beyond the bound\n";
    (missed == 0 ? passed : failed) += 1;
  }
  std::cout << passed << " cases within the bound, " << failed << " not; " << unread << " numbers were NaN\n";
  return failed == 0 && passed > 0 && unread > 0 ? 0 : 1;
}
