// What runs the jobs, plans as plain numbers, and merge: compiled for the instruction set under test, as the
// subjects are.
#include "typed_subject.hpp"

#include <map>
#include <numeric>

namespace fovea_test {
namespace {

/// A user's executor: tasks in another order, each given to some worker; it allocates nothing.
class shuffled_executor {
 public:
  shuffled_executor(index_type workers, std::uint64_t seed) : workers_(workers), seed_(seed) {}
  index_type workers() const { return workers_; }
  void for_each(index_type n, fovea::task_ref f) const {
    random_source random(seed_);
    index_type step = random.integer(1, n);
    while (std::gcd(step, n) != 1) ++step;
    index_type task = random.integer(0, n - 1);
    for (index_type i = 0; i < n; ++i, task = (task + step) % n) f(task, random.integer(0, workers_ - 1));
  }

 private:
  index_type workers_;
  std::uint64_t seed_;
};

/// Every task is the last worker's.
class last_worker {
 public:
  explicit last_worker(index_type workers) : workers_(workers) {}
  index_type workers() const { return workers_; }
  void for_each(index_type n, fovea::task_ref f) const {
    for (index_type task = 0; task < n; ++task) f(task, workers_ - 1);
  }

 private:
  index_type workers_;
};

/// One object for each key, made at its first use.
template <class X, class Key, class Make>
X& one_for(const Key& key, Make make) {
  static std::map<Key, std::unique_ptr<X>> all;
  auto& found = all[key];
  if (!found) found = make();
  return *found;
}

}  // namespace

fovea::executor_ref executor_for(const executor_choice& choice) {
  const index_type n = choice.workers;
  if (choice.which == executor_choice::threads)
    return one_for<fovea::threads>(n, [&] { return std::make_unique<fovea::threads>(n); });
  if (choice.which == executor_choice::shuffled)
    return one_for<shuffled_executor>(std::pair(n, choice.seed),
                                      [&] { return std::make_unique<shuffled_executor>(n, choice.seed); });
  if (choice.which == executor_choice::last)
    return one_for<last_worker>(n, [&] { return std::make_unique<last_worker>(n); });
  return {};
}

plan_facts facts_of(const fovea::plan& p) {
  return {p.workspace_bytes(), p.scratch_bytes(), p.jobs,       p.workers,   p.lanes,       p.tile_rows,
          p.tile_vectors,      p.key_block,       p.rows_a_job, p.rows_form, p.allocates(), p.explain()};
}

void merge_parts(array& out, array& lse, const array& other_out, const array& other_lse) {
  const auto to_tensor = [](const array& a) {
    fovea::tensor<double> t(a.batch, a.heads, a.tokens, a.dim);
    std::copy(a.x.begin(), a.x.end(), t.data());
    return t;
  };
  using part = fovea::partial<fovea::tensor<double>, fovea::tensor<double>>;
  const part both =
      fovea::merge(part{to_tensor(out), to_tensor(lse)}, part{to_tensor(other_out), to_tensor(other_lse)});
  std::copy(both.out.data(), both.out.data() + both.out.size(), out.x.begin());
  std::copy(both.lse.data(), both.lse.data() + both.lse.size(), lse.x.begin());
}

}  // namespace fovea_test
