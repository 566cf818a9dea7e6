// fovea/distributed/ordered_gradients.hpp - dK and dV of blocks of keys, summed over blocks of queries in an
// order that does not depend on which rank holds which.
#pragma once

#include <fovea/distributed/key_gradients.hpp>

#include <memory>
#include <utility>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// What the queries of a sequence add to dK and dV of a block of keys is summed as a binary tree over blocks
/// of queries: those of blocks 2i and 2i + 1, then of two such, and so on, whoever has them. A rank sums what
/// whole subtrees lie in its slices, and sends these to the rank whose keys they are: one a slice, where
/// slices are even and a power of two of blocks, else up to twice the logarithm of their number. That one
/// joins each as it comes, before it takes the next: it holds those of its own slices and of the blocks so
/// far, the logarithm of their number. A rank that sends holds those on their way and those of the next block
/// of keys.
template <class T>
class ordered_gradients {
  using sum_type = std::unique_ptr<key_gradients<T>>;
  /// A subtree: of `count` blocks from `first` on. No sum: none of their queries sees the keys.
  struct node {
    index_type first, count;
    sum_type sum;
  };
  using node_list = std::vector<node>;
  struct query_slice {
    range blocks;
    int rank;
  };

 public:
  ordered_gradients(const communicator& processes, const ring_sizes& sizes, index_type block)
      : processes_(processes), block_(block) {
    std::size_t building = 0, own = 0, joining = 0;
    for (const slices_of_ranks& queries : sizes.queries) {
      slices_.push_back(in_order(queries));
      node_list all;
      std::size_t held = 0;
      for (const query_slice& x : slices_.back()) {
        std::size_t most = 0;
        node_list nodes = nodes_of(x.blocks, &most);
        if (x.rank == processes.rank())
          building = std::max(building, held + most), own = std::max(own, held += nodes.size());
        for (node& n : nodes) push(all, std::move(n), 0), joining = std::max(joining, all.size() + 1);
      }
    }
    for (std::size_t i = 0; i < building + own + joining + 1; ++i)
      free_.push_back(std::make_unique<key_gradients<T>>(sizes, std::min(block, sizes.longest_keys())));
  }

  /// write(key_gradients) -> bool: what the block of this rank's queries from token `first` on gives for a
  /// block of keys; false where it gives nothing. Called for all of them in order.
  template <class Write>
  void add(index_type first, index_type tokens, const Write& write) {
    const index_type at = first / block_;
    if (own_.empty() || own_.back().empty() || own_.back().back().first + own_.back().back().count != at)
      own_.emplace_back();
    node leaf{at, 1, take()};
    if (!write(*leaf.sum)) give_back(leaf.sum);
    push(own_.back(), std::move(leaf), tokens);
  }

  /// Once they all were: result(key_gradients), on the rank that holds the keys.
  /// `failed`: this rank could not. Returns the bytes that it sent.
  template <class Result>
  index_type finish(index_type b, int owner, index_type tokens, bool failed, const Result& result) {
    const auto& slices = slices_[static_cast<std::size_t>(b)];
    std::vector<node_list> own = own_nodes(slices, failed);
    wait();
    if (owner != processes_.rank()) {
      index_type bytes = 0;
      for (node_list& nodes : own) bytes += send(owner, nodes, tokens);
      return bytes;
    }
    node_list all;
    auto next = own.begin();
    for (const query_slice& x : slices)
      if (x.rank == owner)
        for (node& n : *next++) push(all, std::move(n), tokens);
      else
        receive(x, tokens, all);
    while (all.size() > 1) join_last(all, tokens);
    sum_type sum = all.empty() ? nullptr : std::move(all[0].sum);
    if (sum == nullptr) sum = take(), sum->clear(tokens);
    result(*sum), give_back(sum);
    return 0;
  }
  void progress() { sent_.progress(); }
  void wait() {
    sent_.wait();
    for (sum_type& sum : on_their_way_) give_back(sum);
    on_their_way_.clear(), seen_.clear();
  }

 private:
  /// The slices of a sequence; those of one rank that touch are one.
  std::vector<query_slice> in_order(const slices_of_ranks& queries) const {
    std::vector<query_slice> all, joined;
    for (int r = 0; r < processes_.ranks(); ++r)
      for (const slice& part : queries.of(r))
        if (part.count > 0)
          all.push_back({{part.first / block_, ceil_div(part.first + part.count, block_)}, r});
    std::sort(all.begin(), all.end(),
              [](const query_slice& x, const query_slice& y) { return x.blocks.first < y.blocks.first; });
    for (const query_slice& x : all)
      if (!joined.empty() && joined.back().rank == x.rank)
        joined.back().blocks.last = x.blocks.last;
      else
        joined.push_back(x);
    return joined;
  }
  sum_type take() noexcept {
    sum_type sum = std::move(free_.back());
    free_.pop_back();
    return sum;
  }
  void give_back(sum_type& sum) { free_.push_back(std::move(sum)); }

  /// Behind the others; those that are halves of a subtree become one.
  void push(node_list& all, node&& next, index_type tokens) {
    all.push_back(std::move(next));
    while (all.size() > 1) {
      const node &left = all[all.size() - 2], &right = all.back();
      if (left.count != right.count || left.first % (2 * left.count) != 0 ||
          left.first + left.count != right.first)
        return;
      join_last(all, tokens);
    }
  }
  void join_last(node_list& all, index_type tokens) {
    node &left = all[all.size() - 2], &right = all.back();
    left.count += right.count;
    if (left.sum == nullptr)
      left.sum = std::move(right.sum);
    else if (right.sum != nullptr)
      left.sum->add(*right.sum, tokens), give_back(right.sum);
    all.pop_back();
  }
  /// The subtrees of some blocks, without their sums; `most`: how many there are at a time while they grow.
  node_list nodes_of(range blocks, std::size_t* most = nullptr) {
    node_list nodes;
    for (index_type i = blocks.first; i < blocks.last; ++i) {
      if (most != nullptr) *most = std::max(*most, nodes.size() + 1);
      push(nodes, {i, 1, nullptr}, 0);
    }
    return nodes;
  }
  /// This rank's, of each of its slices.
  std::vector<node_list> own_nodes(const std::vector<query_slice>& slices, bool failed) {
    if (failed) {
      for (node_list& nodes : own_)
        for (node& n : nodes)
          if (n.sum != nullptr) give_back(n.sum);
      own_.clear();
      for (const query_slice& x : slices)
        if (x.rank == processes_.rank()) own_.push_back(nodes_of(x.blocks));
    }
    return std::exchange(own_, {});
  }

  index_type send(int owner, node_list& nodes, index_type tokens) {
    std::vector<char>& seen = *seen_.emplace_back(std::make_unique<std::vector<char>>());
    for (const node& n : nodes) seen.push_back(n.sum != nullptr);
    sent_.send(processes_, owner, tag_of_seen, seen.data(), static_cast<index_type>(seen.size()));
    index_type bytes = 0;
    for (node& n : nodes) {
      if (n.sum == nullptr) continue;
      key_gradients<T>& sum = *n.sum;
      sent_.send(processes_, owner, tag_of_key_gradients, sum.d_k.data(), sum.d_k.size(tokens));
      sent_.send(processes_, owner, tag_of_value_gradients, sum.d_v.data(), sum.d_v.size(tokens));
      bytes += sum.bytes(tokens);
      on_their_way_.push_back(std::move(n.sum));
    }
    return bytes;
  }
  /// One at a time, each joined to those before: there are sums for no more.
  void receive(const query_slice& from, index_type tokens, node_list& all) {
    node_list nodes = nodes_of(from.blocks);
    std::vector<char> seen(nodes.size());
    messages arriving;
    arriving.receive(processes_, from.rank, tag_of_seen, seen.data(), static_cast<index_type>(seen.size()));
    arriving.wait();
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (seen[i] != 0) {
        nodes[i].sum = take();
        key_gradients<T>& sum = *nodes[i].sum;
        arriving.receive(processes_, from.rank, tag_of_key_gradients, sum.d_k.data(), sum.d_k.size(tokens));
        arriving.receive(processes_, from.rank, tag_of_value_gradients, sum.d_v.data(), sum.d_v.size(tokens));
        arriving.wait();
      }
      push(all, std::move(nodes[i]), tokens);
    }
  }

  const communicator& processes_;
  index_type block_;
  std::vector<std::vector<query_slice>> slices_;  // of each sequence, in order
  std::vector<node_list> own_;                    // of each of this rank's slices
  std::vector<sum_type> free_, on_their_way_;
  std::vector<std::unique_ptr<std::vector<char>>> seen_;
  messages sent_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
