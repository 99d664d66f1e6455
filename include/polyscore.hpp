// polyscore for C++17: handles that close themselves, spans, and two forms of every call.
//
// Header-only over polyscore.h. `try_` forms are noexcept and return a Result; the forms without `try_` throw Exception
// and are there only if exceptions are enabled. A Model may be used by any number of threads, a Scorer by one at a time.
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

// One thread's scratch over a model; it keeps the model's file open.
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

#if POLYSCORE_EXCEPTIONS
    static Model open(const char *path, const Options &options = {}) { return try_open(path, options).take(); }
    Scorer scorer() const { return try_scorer().take(); }
    std::uint32_t feature(const char *name) const { return try_feature(name).take(); }
    std::uint32_t task(const char *name) const { return try_task(name).take(); }
    std::uint32_t scenario(const char *name) const { return try_scenario(name).take(); }
    std::uint32_t scenario(std::int64_t id) const { return try_scenario(id).take(); }
    polyscore_model_info info() const { return try_info().take(); }
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
