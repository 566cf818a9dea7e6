// fovea/plan/plan.hpp - what a call will do, as a value.
#pragma once

#include <fovea/plan/working_memory.hpp>

FOVEA_NAMESPACE_BEGIN

/// Who computes what, in blocks of which size, with how much memory beyond inputs and outputs. Depends on the
/// sizes, the strides and the executor of a call, never on the values in it.
struct plan {
  using is_plan = void;

  index_type batches = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0,
             value_dim = 0;                      // tokens: the most of any sequence
  index_type lanes = 0, compute_bytes = 4;       // of a register, of a number in it
  index_type workers = 1;                        // at a time, with a scratch each; 1: the calling thread
  bool scratch_a_task = false;                   // the executor has more workers than there are tasks
  index_type jobs = 0, jobs_a_sequence = 0;      // some may be empty where sequences differ in length
  index_type row_blocks_a_sequence = 0;          // jobs of the form with dim in lanes, but for key splits:
  index_type key_splits = 1;                     // into how many parts the keys of the longest are split
  bool rows_form = false, queries_form = false;  // dim in lanes (few query rows), queries in lanes
  bool grouped = false;                          // query heads of a group share lanes
  index_type rows_a_job = 0, key_block = 0;
  index_type heads_a_task = 1;  // key/value heads whose jobs are one task, as pages hold them together
  index_type tile_rows = 0, tile_vectors = 0;
  bool copies_keys = false, copies_values = false;
  kernel::scratch_parts scratch = {};  // bytes of a worker's, by use
  index_type states = 0;               // bytes that key splits leave to be merged
  bool receives = false;               // what keys receive is summed
  index_type received_lse = 0;         // bytes of the LSE for it, where the caller does not want them
  index_type query_copy = 0;           // and of Q, where O is Q itself and is written before Q is read again

  // Filled in by attention::plan_for, for job rows x key_block keys:
  index_type full_blocks = -1, partial_blocks = -1, hidden_blocks = -1;
  index_type shortest_span = 0,
             longest_span = 0;  // keys from the first to the last block that a job computes

  /// Bytes of scratch memory of one worker.
  index_type scratch_bytes() const noexcept { return scratch.bytes(); }
  /// Bytes of a workspace that serves the call, wherever it starts: with so many given, the call allocates
  /// nothing.
  index_type workspace_bytes() const noexcept {
    using kernel::part_bytes;
    return jobs == 0 ? 0
                     : workers * scratch_bytes() + state_bytes() + part_bytes(received_lse) +
                           part_bytes(query_copy) + workspace_alignment - 1;
  }
  /// Bytes of what jobs over key splits leave to be merged.
  index_type state_bytes() const noexcept {
    return kernel::part_bytes(states) + kernel::part_bytes(start_bytes());
  }
  /// Of where each sequence's begins there.
  index_type start_bytes() const noexcept {
    return key_splits == 1 ? 0 : kernel::bytes_of<index_type>(batches);
  }
  /// Whether a call without a workspace allocates one: less than stack_memory::size lies on the stack.
  bool allocates() const noexcept { return workspace_bytes() > stack_memory::size; }

  /// f(name, number, the other's) for each number that plans of calls of the same sizes have in common.
  template <class F>
  void each_number(const plan& other, const F& f) const {
    const auto both = [&](const char* name, auto plan::*number) {
      f(name, static_cast<index_type>(this->*number), static_cast<index_type>(other.*number));
    };
    both("sequences", &plan::batches), both("query heads", &plan::heads);
    both("key/value heads", &plan::kv_heads), both("queries", &plan::queries), both("keys", &plan::keys);
    both("dimensions a head", &plan::dim), both("columns of values a head", &plan::value_dim);
    both("numbers a register", &plan::lanes), both("bytes a number", &plan::compute_bytes);
    both("sums of what keys receive", &plan::receives);
    both("workers", &plan::workers), both("scratches a task", &plan::scratch_a_task);
    both("jobs", &plan::jobs), both("jobs a sequence", &plan::jobs_a_sequence);
    both("blocks of rows a sequence", &plan::row_blocks_a_sequence), both("key splits", &plan::key_splits);
    both("rows a job", &plan::rows_a_job), both("keys a block", &plan::key_block);
    both("heads a task", &plan::heads_a_task);
    const auto parts = [&](const char* name, index_type kernel::scratch_parts::*part) {
      f(name, scratch.*part, other.scratch.*part);
    };
    using parts_of = kernel::scratch_parts;
    parts("bytes in its panels", &parts_of::panels), parts("bytes in its logits", &parts_of::logits);
    parts("bytes in its copy of keys", &parts_of::keys);
    parts("bytes in its copy of values", &parts_of::values);
    parts("bytes in its copies for masks and scores", &parts_of::stages);
    both("bytes in its states", &plan::states);
    both("bytes in its LSE", &plan::received_lse), both("bytes in its copy of queries", &plan::query_copy);
  }

  /// The plan in words.
  std::string explain() const {
    const auto n = [](index_type i) { return std::to_string(i); };
    std::string text = n(batches) + " x " + n(heads) + " query heads (" + n(kv_heads) +
                       " key/value heads), " + n(queries) + " queries x " + n(keys) + " keys, dim " + n(dim) +
                       ", value dim " + n(value_dim) + "\n";
    if (queries_form)
      text += "queries in lanes: tiles of " + n(tile_rows) + " keys x " + n(tile_vectors) + " registers of " +
              n(lanes) + (grouped ? " queries, those of heads that share keys together\n" : " queries\n");
    if (rows_form) text += "dim in lanes: the query rows of a key/value head read each key and value once\n";
    if (heads_a_task > 1)
      text += "up to " + n(heads_a_task) + " key/value heads read each page together\n";
    if (key_splits > 1)
      text += "keys split into up to " + n(key_splits) + " parts, whose results (" + n(state_bytes()) +
              " bytes) are merged\n";
    if (receives)
      text += std::string("what each key receives is summed ") +
              (queries_form ? "in a second sweep" : "from logits that are kept meanwhile") +
              (query_copy > 0 ? ", by a copy of the queries, which the result replaces" : "") + "\n";
    text +=
        n(jobs) + " jobs of up to " + n(rows_a_job) + " query rows, in blocks of " + n(key_block) + " keys\n";
    text += std::string("keys are ") + (copies_keys ? "copied a block at a time" : "read as they lie") +
            ", values are " + (copies_values ? "copied a block at a time" : "read as they lie") + "\n";
    if (full_blocks >= 0)
      text += "blocks: " + n(full_blocks) + " full, " + n(partial_blocks) + " partial, " + n(hidden_blocks) +
              " hidden and never computed; jobs span " + n(shortest_span) + " to " + n(longest_span) +
              " keys\n";
    text += n(scratch_bytes()) + " bytes of scratch a worker, " + n(workers) +
            (workers == 1 ? " worker" : " workers");
    return text;
  }
};

FOVEA_NAMESPACE_END
