// No name of the library clashes with one of POSIX, of std or of Eigen.
#include <unsupported/Eigen/CXX11/Tensor>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <Eigen/Dense>
#include <Eigen/Sparse>

#include <aio.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libgen.h>
#include <math.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <regex.h>
#include <sched.h>
#include <search.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <syslog.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <utime.h>
#include <wordexp.h>

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <barrier>
#include <bit>
#include <bitset>
#include <charconv>
#include <chrono>
#include <cmath>
#include <compare>
#include <complex>
#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <execution>
#include <filesystem>
#include <forward_list>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <latch>
#include <limits>
#include <list>
#include <locale>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <new>
#include <numbers>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <ranges>
#include <ratio>
#include <regex>
#include <scoped_allocator>
#include <semaphore>
#include <set>
#include <shared_mutex>
#include <source_location>
#include <span>
#include <sstream>
#include <stack>
#include <stop_token>
#include <string>
#include <string_view>
#include <syncstream>
#include <system_error>
#include <thread>
#include <tuple>
#include <typeindex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <valarray>
#include <variant>
#include <vector>
#if __cplusplus > 202002L
#if __has_include(<expected>)
#include <expected>
#endif
#if __has_include(<format>)
#include <format>
#endif
#if __has_include(<mdspan>)
#include <mdspan>
#endif
#if __has_include(<print>)
#include <print>
#endif
#if __has_include(<spanstream>)
#include <spanstream>
#endif
#if __has_include(<stacktrace>)
#include <stacktrace>
#endif
#endif

#include <fovea/additive.hpp>
#include <fovea/cosine.hpp>
#include <fovea/decomposed.hpp>
#include <fovea/differential.hpp>
#include <fovea/differential/reference.hpp>
#include <fovea/feature_attention.hpp>
#include <fovea/hadamard.hpp>
#include <fovea/hard.hpp>
#include <fovea/hard/reference.hpp>
#include <fovea/inspect.hpp>
#include <fovea/kernels.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/linear_attention.hpp>
#include <fovea/linear/reference.hpp>
#include <fovea/luong.hpp>
#include <fovea/multi_head.hpp>
#include <fovea/reference.hpp>
#include <fovea/short_convolution.hpp>
#include <fovea/sigmoid_attention.hpp>
#include <fovea/streamed.hpp>
#include <fovea/talking_heads.hpp>
#include <fovea/top_blocks.hpp>
#include <fovea/top_keys.hpp>
#include <fovea/transformer_xl.hpp>
#include <fovea/view/eigen_tensor.hpp>

// What programs write who open all three: names of each, those that the library once had among them, and its own.
namespace opened {
using namespace std;
using namespace Eigen;
using namespace fovea;

inline MatrixXf all_of_them(const MatrixXf& m, vector<float>& numbers) {
  const list<int> ids{1, 2, 3};
  const Matrix<float, Dynamic, Dynamic> copy = m;
  const bool positive = all_of(ids.begin(), ids.end(), [](int x) { return x > 0; });
  const char* dot = index("a.b", '.');
  const Index rows = m.rows() + (positive && dot != nullptr ? 0 : 1);
  vector<int> merged(6);
  merge(ids.begin(), ids.end(), ids.begin(), ids.end(), merged.begin());
  rotate(merged.begin(), merged.begin() + 1, merged.end());
  const Array<float, Dynamic, 1> sum = copy.rowwise().sum().array();
  this_thread::yield();

  const attention<float, 2> attend;
  threads pool(1);
  MatrixXf o =
      attend(m, m, m, causal & sliding_window{.left = 2}, alibi{numbers}, softcap{3.f}, sink{numbers});
  o += merge(attend.with_lse(m, m, m), attend.with_lse(m, m, m)).out;
  const vector<index_type> offsets{0, rows}, lengths{rows};
  o += attend(ragged{m, offsets}, ragged{m, offsets}, ragged{m, offsets}, key_lengths{lengths});
  o += attend(m, m, m, bias(m), boolean_mask(bhsd(merged.data(), 1, 1, 1, 1)), dropout{.rate = 0.5},
              score([](auto s, auto q, auto k) { return s - abs(q - k); }),
              mask([](auto q, auto k) { return k <= q; }));
  const rotary_table<float> table(9, 4);
  rotate(o, table.angles(), {.heads = 2});
  kv_cache<bf16, 2> cache(9, 4);
  cache.append(m, m);
  o += attend(m, cache, causal);
  const multi_head<float, 2> layer({.width = 8});
  tensor<double> expected = reference(m, m, m, {.heads = 2}, causal).out;
  o(0, 0) += static_cast<float>(expected(0, 0, 0, 0)) + sum.sum() +
             static_cast<float>(find_unusual_heads(attend.statistics(m, m)).size());
  return o;
}
}  // namespace opened

// Each name that the headers declare: alone in the global namespace, and beside those of std and Eigen. (A name that
// stands for two things other than functions is ambiguous.)
#define FOVEA_TEST_NAME(name) using fovea::name;
#include "each_name.inc"
#undef FOVEA_TEST_NAME
namespace beside {
#define FOVEA_TEST_NAME(name) using opened::name;
#include "each_name.inc"
}  // namespace beside

int main() {
  std::vector<float> numbers(2);
  return opened::all_of_them(Eigen::MatrixXf::Random(5, 8), numbers).rows() > 0 ? 0 : 1;
}
