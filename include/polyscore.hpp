// polyscore for C++17: handles that close themselves, spans, and two forms of every call.
//
// Header-only over polyscore.h. `try_` forms are noexcept and return a Result; the forms without `try_` throw Exception
// and are there only if exceptions are enabled. A Model or a Pool may be used by any number of threads, a Scorer by one at a
// time.
#ifndef POLYSCORE_HPP
#define POLYSCORE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "polyscore.h"

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define POLYSCORE_EXCEPTIONS 1
#include <stdexcept>
#else
#define POLYSCORE_EXCEPTIONS 0
#endif

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace polyscore {

#if defined(__cpp_lib_span)
template <class T>
using span = std::span<T>;
#else
// A view of an array: std::span, as far as this header needs it.
template <class T>
class span {
  public:
    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N>
    constexpr span(T (&array)[N]) noexcept : data_(array), size_(N) {}
    template <class C, class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
    constexpr span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }

  private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

// What went wrong: a status, the guilty thing, and a message.
class Error {
  public:
    Error() noexcept { std::memset(&raw_, 0, sizeof raw_), raw_.struct_size = sizeof raw_; }
    polyscore_status status() const noexcept { return raw_.status; }
    const char *name() const noexcept { return polyscore_status_name(raw_.status); }
    std::string_view subject() const noexcept { return raw_.subject; }
    std::string_view message() const noexcept { return raw_.message; }
    polyscore_error *raw() noexcept { return &raw_; }

    // A failure of a call that has no error struct.
    static Error of(polyscore_status status) noexcept {
        Error error;
        error.raw_.status = status;
        return error;
    }

  private:
    polyscore_error raw_;
};

#if POLYSCORE_EXCEPTIONS
// An Error, thrown.
class Exception : public std::runtime_error {
  public:
    explicit Exception(const Error &error)
        : std::runtime_error(std::string(error.subject()) + ": " + std::string(error.message())), error_(error) {}
    const Error &error() const noexcept { return error_; }
    polyscore_status status() const noexcept { return error_.status(); }

  private:
    Error error_;
};
#endif

// A value or an Error. `value()` of a failed one is undefined: ask `ok()` first.
template <class T>
class [[nodiscard]] Result {
  public:
    Result(T &&value) noexcept : value_(std::move(value)) {}
    Result(const Error &error) noexcept : error_(error) {}
    bool ok() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    T &value() & noexcept { return *value_; }
    T &&value() && noexcept { return std::move(*value_); }
    const Error &error() const noexcept { return error_; }
#if POLYSCORE_EXCEPTIONS
    // The value, or an Exception.
    T take() && {
        if (!ok()) throw Exception(error_);
        return std::move(*value_);
    }
#endif

  private:
    std::optional<T> value_;
    Error error_;
};

// Success or an Error.
template <>
class [[nodiscard]] Result<void> {
  public:
    Result() noexcept = default;
    Result(const Error &error) noexcept : error_(error) {}
    bool ok() const noexcept { return error_.status() == POLYSCORE_OK; }
    explicit operator bool() const noexcept { return ok(); }
    const Error &error() const noexcept { return error_; }
#if POLYSCORE_EXCEPTIONS
    void take() && {
        if (!ok()) throw Exception(error_);
    }
#endif

  private:
    Error error_;
};

// How to open a model; see polyscore_open_options.
struct Options {
    std::uint32_t mode = 0;
    std::uint32_t precision = 0;
    bool split = true;
    std::uint32_t tile = 0;
    const char *isa = nullptr;
    double max_error = 0.0;
    std::uint64_t max_bytes = 0;
    std::uint64_t scenario_bytes = 0;
    std::uint64_t product_bytes = 0;
    std::uint64_t item_bytes = 0;
    std::uint32_t item_rows = 0;
};

// Columns of one call: borrowed views, so the arrays must outlive the call. Reused by `clear()`, it does not allocate.
class Columns {
  public:
    void reserve(std::size_t columns) { columns_.reserve(columns); }
    void clear() noexcept { columns_.clear(); }
    Columns &i64(std::uint32_t feature, span<const std::int64_t> values, span<const std::int64_t> rows = {}) {
        return add(feature, POLYSCORE_COLUMN_I64, values.data(), values.size(), rows);
    }
    Columns &i32(std::uint32_t feature, span<const std::int32_t> values, span<const std::int64_t> rows = {}) {
        return add(feature, POLYSCORE_COLUMN_I32, values.data(), values.size(), rows);
    }
    Columns &f32(std::uint32_t feature, span<const float> values, span<const std::int64_t> rows = {}) {
        return add(feature, POLYSCORE_COLUMN_F32, values.data(), values.size(), rows);
    }
    // A key for each candidate, INT64_MIN for none: see POLYSCORE_ITEM_KEY.
    Columns &item_keys(span<const std::int64_t> keys) { return i64(POLYSCORE_ITEM_KEY, keys); }
    // Texts one after the other in `bytes`; `offsets` has one more element than there are texts.
    Columns &text(std::uint32_t feature, std::string_view bytes, span<const std::int64_t> offsets,
                  span<const std::int64_t> rows = {}) {
        add(feature, POLYSCORE_COLUMN_TEXT, bytes.data(), bytes.size(), rows);
        columns_.back().text_offsets = offsets.data();
        columns_.back().text_offsets_len = offsets.size();
        return *this;
    }
    const polyscore_column *data() const noexcept { return columns_.data(); }
    std::size_t size() const noexcept { return columns_.size(); }

  private:
    Columns &add(std::uint32_t feature, std::uint32_t type, const void *values, std::size_t size,
                 span<const std::int64_t> rows) {
        polyscore_column column;
        std::memset(&column, 0, sizeof column);
        column.struct_size = sizeof column;
        column.feature = feature;
        column.type = type;
        column.values = values;
        column.values_len = size;
        column.row_offsets = rows.data();
        column.row_offsets_len = rows.size();
        columns_.push_back(column);
        return *this;
    }
    std::vector<polyscore_column> columns_;
};

// A task of a call, for a host's executor; see polyscore_run.
class Task {
  public:
    void operator()(std::size_t index) const noexcept { task_(context_, index); }

  private:
    friend class Pool;
    Task(polyscore_task task, void *context) noexcept : task_(task), context_(context) {}
    polyscore_task task_;
    void *context_;
};

// Threads that parallel scorers share, of its own or of the host.
class Pool {
  public:
    Pool(Pool &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Pool &operator=(Pool &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;
    ~Pool() { polyscore_pool_close(handle_); }

    // For calls on up to `threads` threads, the caller's and one fewer that are made here; 0: as many as the process may use.
    static Result<Pool> try_own(std::uint32_t threads = 0, const char *name = nullptr) noexcept {
        return make(threads, name, nullptr, nullptr);
    }

    // Over the host's threads: `executor(tasks, task)` calls `task(i)` once for every i below `tasks`, on any threads, and
    // returns when all of them have returned. It is called on every thread that scores, and outlives the pool and its
    // scorers. If it throws, the call fails with POLYSCORE_EXECUTOR.
    template <class Executor>
    static Result<Pool> try_over(Executor &executor, std::uint32_t threads = 0) noexcept {
        return make(threads, nullptr, &run<Executor>, const_cast<std::remove_const_t<Executor> *>(&executor));
    }

    // How many threads a call uses at most, the caller's among them.
    Result<std::uint32_t> try_threads() const noexcept {
        Error error;
        std::uint32_t threads = 0;
        if (polyscore_pool_threads(handle_, &threads, error.raw()) != POLYSCORE_OK) return error;
        return threads;
    }

#if POLYSCORE_EXCEPTIONS
    static Pool own(std::uint32_t threads = 0, const char *name = nullptr) { return try_own(threads, name).take(); }
    template <class Executor>
    static Pool over(Executor &executor, std::uint32_t threads = 0) {
        return try_over(executor, threads).take();
    }
    std::uint32_t threads() const { return try_threads().take(); }
#endif

    polyscore_pool *raw() const noexcept { return handle_; }

  private:
    explicit Pool(polyscore_pool *handle) noexcept : handle_(handle) {}

    static Result<Pool> make(std::uint32_t threads, const char *name, polyscore_run run, void *executor) noexcept {
        polyscore_pool_options raw;
        std::memset(&raw, 0, sizeof raw);
        raw.struct_size = sizeof raw;
        raw.threads = threads;
        raw.name = name;
        raw.run = run;
        raw.executor = executor;
        Error error;
        polyscore_pool *handle = nullptr;
        if (polyscore_pool_new(&raw, &handle, error.raw()) != POLYSCORE_OK) return error;
        return Pool(handle);
    }

    template <class Executor>
    static void run(void *executor, std::size_t tasks, polyscore_task task, void *context) noexcept {
#if POLYSCORE_EXCEPTIONS
        try {
            (*static_cast<Executor *>(executor))(tasks, Task(task, context));
        } catch (...) {
            // The tasks that did not run fail the call.
        }
#else
        (*static_cast<Executor *>(executor))(tasks, Task(task, context));
#endif
    }

    polyscore_pool *handle_;
};

// One thread's scratch over a model; it keeps the model's file open, and its pool's threads.
class Scorer {
  public:
    Scorer(Scorer &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Scorer &operator=(Scorer &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Scorer(const Scorer &) = delete;
    Scorer &operator=(const Scorer &) = delete;
    ~Scorer() { polyscore_scorer_close(handle_); }

    // Takes a request: its scenario, or POLYSCORE_SCENARIO_UNKNOWN, and request columns of one row each.
    Result<void> try_prepare(std::uint32_t scenario, const Columns &columns) noexcept {
        Error error;
        polyscore_scorer_prepare(handle_, scenario, columns.data(), columns.size(), error.raw());
        return Result<void>(error);
    }

    // Writes out[t * candidates + i] for the t-th of `tasks` (all tasks, if empty).
    Result<void> try_score(std::size_t candidates, const Columns &columns, span<float> out,
                           span<const std::uint32_t> tasks = {}) noexcept {
        Error error;
        polyscore_scorer_score(handle_, candidates, columns.data(), columns.size(), tasks.data(), tasks.size(),
                               out.data(), out.size(), error.raw());
        return Result<void>(error);
    }

    // As try_score, each candidate for a scenario of its own: there are as many `scenarios` as candidates.
    Result<void> try_score_mixed(span<const std::uint32_t> scenarios, const Columns &columns, span<float> out,
                                 span<const std::uint32_t> tasks = {}) noexcept {
        Error error;
        polyscore_scorer_score_mixed(handle_, scenarios.size(), scenarios.data(), columns.data(), columns.size(),
                                     tasks.data(), tasks.size(), out.data(), out.size(), error.raw());
        return Result<void>(error);
    }

    // Writes out[(s * tasks + t) * candidates + i]: every candidate for every one of `scenarios`.
    Result<void> try_score_each(std::size_t candidates, span<const std::uint32_t> scenarios, const Columns &columns,
                                span<float> out, span<const std::uint32_t> tasks = {}) noexcept {
        Error error;
        polyscore_scorer_score_each(handle_, candidates, scenarios.data(), scenarios.size(), columns.data(),
                                    columns.size(), tasks.data(), tasks.size(), out.data(), out.size(), error.raw());
        return Result<void>(error);
    }

    Result<polyscore_counters> try_counters() noexcept {
        Error error;
        polyscore_counters counters;
        std::memset(&counters, 0, sizeof counters);
        counters.struct_size = sizeof counters;
        if (polyscore_scorer_counters(handle_, &counters, error.raw()) != POLYSCORE_OK) return error;
        return counters;
    }

#if POLYSCORE_EXCEPTIONS
    void prepare(std::uint32_t scenario, const Columns &columns) { try_prepare(scenario, columns).take(); }
    void score(std::size_t candidates, const Columns &columns, span<float> out,
               span<const std::uint32_t> tasks = {}) {
        try_score(candidates, columns, out, tasks).take();
    }
    void score_mixed(span<const std::uint32_t> scenarios, const Columns &columns, span<float> out,
                     span<const std::uint32_t> tasks = {}) {
        try_score_mixed(scenarios, columns, out, tasks).take();
    }
    void score_each(std::size_t candidates, span<const std::uint32_t> scenarios, const Columns &columns,
                    span<float> out, span<const std::uint32_t> tasks = {}) {
        try_score_each(candidates, scenarios, columns, out, tasks).take();
    }
    polyscore_counters counters() { return try_counters().take(); }
#endif

    polyscore_scorer *raw() const noexcept { return handle_; }

  private:
    friend class Model;
    explicit Scorer(polyscore_scorer *handle) noexcept : handle_(handle) {}
    polyscore_scorer *handle_;
};

// An open model.
class Model {
  public:
    Model(Model &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Model &operator=(Model &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;
    ~Model() { polyscore_model_close(handle_); }

    static Result<Model> try_open(const char *path, const Options &options = {}) noexcept {
        polyscore_open_options raw;
        std::memset(&raw, 0, sizeof raw);
        raw.struct_size = sizeof raw;
        raw.mode = options.mode;
        raw.precision = options.precision;
        raw.no_split = options.split ? 0 : 1;
        raw.tile = options.tile;
        raw.isa = options.isa;
        raw.max_error = options.max_error;
        raw.max_bytes = options.max_bytes;
        raw.scenario_bytes = options.scenario_bytes;
        raw.product_bytes = options.product_bytes;
        raw.item_bytes = options.item_bytes;
        raw.item_rows = options.item_rows;
        Error error;
        polyscore_model *handle = nullptr;
        if (polyscore_model_open(path, &raw, &handle, error.raw()) != POLYSCORE_OK) return error;
        return Model(handle);
    }

    Result<Scorer> try_scorer() const noexcept {
        Error error;
        polyscore_scorer *handle = nullptr;
        if (polyscore_scorer_new(handle_, &handle, error.raw()) != POLYSCORE_OK) return error;
        return Scorer(handle);
    }

    // A scorer whose calls are shared among the threads of `pool`: the same bits.
    Result<Scorer> try_scorer(const Pool &pool) const noexcept {
        Error error;
        polyscore_scorer *handle = nullptr;
        if (polyscore_scorer_new_parallel(handle_, pool.raw(), &handle, error.raw()) != POLYSCORE_OK) return error;
        return Scorer(handle);
    }

    // The slot of a feature: resolve it once.
    Result<std::uint32_t> try_feature(const char *name) const noexcept {
        return find(polyscore_model_find_feature, name);
    }
    Result<std::uint32_t> try_task(const char *name) const noexcept { return find(polyscore_model_find_task, name); }
    // The index of a scenario; POLYSCORE_SCENARIO_UNKNOWN for a name that the model does not know.
    Result<std::uint32_t> try_scenario(const char *name) const noexcept {
        return find(polyscore_model_find_scenario, name);
    }
    Result<std::uint32_t> try_scenario(std::int64_t id) const noexcept {
        return find(polyscore_model_find_scenario_id, id);
    }
    Result<polyscore_model_info> try_info() const noexcept {
        Error error;
        polyscore_model_info info;
        std::memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        if (polyscore_model_info_get(handle_, &info, error.raw()) != POLYSCORE_OK) return error;
        return info;
    }
    // Writes the model with its dense layers packed: who opens `path` with the same options maps them.
    Result<void> try_write_packed(const char *path) const noexcept {
        Error error;
        polyscore_model_write_packed(handle_, path, error.raw());
        return Result<void>(error);
    }

#if POLYSCORE_EXCEPTIONS
    static Model open(const char *path, const Options &options = {}) { return try_open(path, options).take(); }
    Scorer scorer() const { return try_scorer().take(); }
    Scorer scorer(const Pool &pool) const { return try_scorer(pool).take(); }
    std::uint32_t feature(const char *name) const { return try_feature(name).take(); }
    std::uint32_t task(const char *name) const { return try_task(name).take(); }
    std::uint32_t scenario(const char *name) const { return try_scenario(name).take(); }
    std::uint32_t scenario(std::int64_t id) const { return try_scenario(id).take(); }
    polyscore_model_info info() const { return try_info().take(); }
    void write_packed(const char *path) const { try_write_packed(path).take(); }
    // The plan as a table.
    std::string plan() const { return text(polyscore_model_plan); }
    // The description, a JSON text.
    std::string description() const { return text(polyscore_model_description); }
#endif

    polyscore_model *raw() const noexcept { return handle_; }

  private:
    explicit Model(polyscore_model *handle) noexcept : handle_(handle) {}

    template <class F, class Key>
    Result<std::uint32_t> find(F function, Key key) const noexcept {
        Error error;
        std::uint32_t found = 0;
        if (function(handle_, key, &found, error.raw()) != POLYSCORE_OK) return error;
        return found;
    }

#if POLYSCORE_EXCEPTIONS
    template <class F>
    std::string text(F function) const {
        Error error;
        std::size_t length = 0;
        polyscore_status status = function(handle_, nullptr, 0, &length, error.raw());
        if (status != POLYSCORE_BUFFER_TOO_SMALL) throw Exception(error);
        std::string text(length + 1, '\0');
        if (function(handle_, text.data(), text.size(), &length, error.raw()) != POLYSCORE_OK) throw Exception(error);
        text.resize(length);
        return text;
    }
#endif

    polyscore_model *handle_;
};

}  // namespace polyscore

#endif  // POLYSCORE_HPP
