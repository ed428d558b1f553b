// deal.II 9.4 on an adaptive loop, as fast as we can make it: quadrilaterals or hexahedra with hanging nodes on a
// p4est forest, Lagrange elements, conjugate gradients with hypre's BoomerAMG, the Kelly estimator, Doerfler marking
// or a fixed part of the cells. The loop ends when the H1 seminorm of the error is small enough.
//
//     mpirun -n RANKS dealii_peer problem=l-shape|front degree=P target=E [KEY=VALUE...] [output=FOLDER]
//
// It prints one JSON line: the time of each phase summed over the loop, the memory of all ranks, and what each step
// had. Keys and their defaults: `Settings`. Start at `Loop::run`.

#include <deal.II/base/mpi.h>
#include <deal.II/base/quadrature_lib.h>
#include <deal.II/base/utilities.h>
#include <deal.II/distributed/grid_refinement.h>
#include <deal.II/distributed/solution_transfer.h>
#include <deal.II/distributed/tria.h>
#include <deal.II/dofs/dof_handler.h>
#include <deal.II/dofs/dof_tools.h>
#include <deal.II/fe/fe_q.h>
#include <deal.II/fe/fe_values.h>
#include <deal.II/fe/mapping_cartesian.h>
#include <deal.II/grid/grid_generator.h>
#include <deal.II/lac/affine_constraints.h>
#include <deal.II/lac/dynamic_sparsity_pattern.h>
#include <deal.II/lac/petsc_precondition.h>
#include <deal.II/lac/petsc_sparse_matrix.h>
#include <deal.II/lac/petsc_vector.h>
#include <deal.II/lac/solver_cg.h>
#include <deal.II/lac/sparsity_tools.h>
#include <deal.II/numerics/data_out.h>
#include <deal.II/numerics/error_estimator.h>
#include <deal.II/numerics/vector_tools.h>

#include <petscsys.h>

#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using namespace dealii;

struct Settings
{
  std::map<std::string, std::string> values = {
    {"problem", "l-shape"},
    {"degree", "1"},
    {"target", "1e-2"},      // H1 seminorm of the error to reach
    {"tolerance", "1e-8"},   // of the solver, relative to the right-hand side of the free rows
    {"residual", "0"},       // weight of h^2 times the squared residual inside cells, beside Kelly's jumps
    {"start", "2"},          // uniform refinements of the first mesh
    {"marking", "dorfler"},  // dorfler: a part of the sum of squares; sum: of the sum; number: of the cells
    {"refine", "0.5"},
    {"coarsen", "0"},
    {"max_steps", "60"},
    {"transfer", "true"},    // start each solve with the last solution
    {"output", ""},          // a folder, or nothing
  };

  Settings(int argc, char **argv)
  {
    for (int k = 1; k < argc; ++k)
      {
        const std::string text = argv[k];
        const auto at = text.find('=');
        if (text[0] == '-')
          break; // PETSc's
        if (at == std::string::npos || values.count(text.substr(0, at)) == 0)
          throw std::runtime_error("there is no setting " + text);
        values[text.substr(0, at)] = text.substr(at + 1);
      }
  }
  const std::string &text(const std::string &key) const { return values.at(key); }
  double number(const std::string &key) const { return std::stod(values.at(key)); }
  unsigned int count(const std::string &key) const { return std::stoul(values.at(key)); }
};

/// Time by phase, each begun and ended by all ranks together.
class Clock
{
public:
  explicit Clock(MPI_Comm comm) : comm(comm) {}

  template <typename Work>
  void operator()(const std::string &phase, const Work &work)
  {
    MPI_Barrier(comm);
    const auto began = std::chrono::steady_clock::now();
    work();
    MPI_Barrier(comm);
    phases[phase] += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }

  std::map<std::string, double> phases;

private:
  MPI_Comm comm;
};

/// r^(2/3) sin(2 theta / 3) about the origin, theta from the positive x axis: harmonic.
template <int dim>
class Corner : public Function<dim>
{
public:
  static constexpr bool has_source = false, singular = true;
  static double angle(const Point<dim> &p)
  {
    const double theta = std::atan2(p[1], p[0]);
    return theta < 0 ? theta + 2 * numbers::PI : theta;
  }
  double value(const Point<dim> &p, const unsigned int = 0) const override
  {
    return std::cbrt(p[0] * p[0] + p[1] * p[1]) * std::sin(2. / 3 * angle(p));
  }
  Tensor<1, dim> gradient(const Point<dim> &p, const unsigned int = 0) const override
  {
    const double theta = angle(p), size = 2. / 3 / std::pow(p[0] * p[0] + p[1] * p[1], 1. / 6);
    Tensor<1, dim> g;
    g[0] = -size * std::sin(theta / 3);
    g[1] = size * std::cos(theta / 3);
    return g;
  }
  static double source(const Point<dim> &) { return 0; }
};

/// atan(20 (r - 0.7)), r the distance from (-0.05, -0.05, -0.05).
template <int dim>
class Front : public Function<dim>
{
public:
  static constexpr bool has_source = true, singular = false;
  static constexpr double slope = 20, radius = 0.7, centre = -0.05;
  static double distance(const Point<dim> &p)
  {
    double sum = 0;
    for (unsigned int k = 0; k < dim; ++k)
      sum += (p[k] - centre) * (p[k] - centre);
    return std::sqrt(sum);
  }
  double value(const Point<dim> &p, const unsigned int = 0) const override
  {
    return std::atan(slope * (distance(p) - radius));
  }
  Tensor<1, dim> gradient(const Point<dim> &p, const unsigned int = 0) const override
  {
    const double r = distance(p), s = slope * (r - radius);
    Tensor<1, dim> g;
    for (unsigned int k = 0; k < dim; ++k)
      g[k] = slope / (1 + s * s) * (p[k] - centre) / r;
    return g;
  }
  static double source(const Point<dim> &p)
  {
    const double r = distance(p), s = slope * (r - radius), w = 1 + s * s;
    return slope / w * (2 * slope * s / w - (dim - 1) / r);
  }
};

void make_mesh(Triangulation<2> &mesh)
{
  const std::vector<Point<2>> vertices = {{-1, -1}, {0, -1}, {-1, 0}, {0, 0}, {1, 0}, {-1, 1}, {0, 1}, {1, 1}};
  const std::array<std::array<unsigned int, 4>, 3> corners = {{{0, 1, 2, 3}, {2, 3, 5, 6}, {3, 4, 6, 7}}};
  std::vector<CellData<2>> cells;
  for (const auto &vertices_of_cell : corners)
    {
      cells.emplace_back(4);
      std::copy(vertices_of_cell.begin(), vertices_of_cell.end(), cells.back().vertices.begin());
    }
  mesh.create_triangulation(vertices, cells, SubCellData());
}

void make_mesh(Triangulation<3> &mesh)
{
  GridGenerator::hyper_cube(mesh);
}

double peak_memory_mb()
{
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.rfind("VmHWM:", 0) == 0)
      return std::stod(line.substr(6)) / 1024;
  throw std::runtime_error("/proc/self/status has no VmHWM");
}

struct Step
{
  unsigned long long cells, dofs;
  double estimate, l2, h1;
  unsigned int iterations;
};

template <int dim, typename Exact>
class Loop
{
public:
  Loop(const Settings &settings, MPI_Comm comm)
    : settings(settings)
    , comm(comm)
    , clock(comm)
    , degree(settings.count("degree"))
    , mesh(comm,
           typename Triangulation<dim>::MeshSmoothing(Triangulation<dim>::none),
           parallel::distributed::Triangulation<dim>::default_setting)
    , element(degree)
    , quadrature(degree + 1)
    , space(mesh)
  {}

  void run()
  {
    clock("mesh", [&] {
      make_mesh(mesh);
      mesh.refine_global(settings.count("start"));
    });
    for (unsigned int step = 0;; ++step)
      {
        set_up();
        assemble();
        solve();
        if (measure() || step == settings.count("max_steps"))
          break;
        refine();
      }
    if (!settings.text("output").empty())
      clock("output", [&] { write(); });
    report();
  }

private:
  void set_up()
  {
    clock("space", [&] {
      space.distribute_dofs(element);
      owned = space.locally_owned_dofs();
      DoFTools::extract_locally_relevant_dofs(space, relevant);
      constraints.clear();
      constraints.reinit(relevant);
      DoFTools::make_hanging_node_constraints(space, constraints);
      VectorTools::interpolate_boundary_values(mapping, space, 0, exact, constraints);
      constraints.close();
    });
    clock("sparsity", [&] {
      DynamicSparsityPattern pattern(relevant);
      DoFTools::make_sparsity_pattern(space, pattern, constraints, false);
      SparsityTools::distribute_sparsity_pattern(pattern, owned, comm, relevant);
      matrix.reinit(owned, owned, pattern, comm);
      rhs.reinit(owned, comm);
    });
  }

  /// Cells of a Cartesian mesh: element matrices by sums over quadrature points, the innermost over contiguous columns.
  void assemble()
  {
    clock("matrix", [&] {
      const UpdateFlags flags = update_gradients | update_JxW_values |
                                (Exact::has_source ? update_values | update_quadrature_points : update_default);
      FEValues<dim> values(mapping, element, quadrature, flags);
      const unsigned int n = element.n_dofs_per_cell(), n_points = quadrature.size();
      FullMatrix<double> cell_matrix(n, n);
      Vector<double> cell_rhs(n);
      std::vector<types::global_dof_index> dofs(n);
      std::vector<double> gradients(n * dim), sums(n * n);
      for (const auto &cell : space.active_cell_iterators())
        {
          if (!cell->is_locally_owned())
            continue;
          values.reinit(cell);
          std::fill(sums.begin(), sums.end(), 0.);
          cell_rhs = 0;
          for (unsigned int q = 0; q < n_points; ++q)
            {
              const double weight = values.JxW(q);
              for (unsigned int i = 0; i < n; ++i)
                {
                  const auto &gradient = values.shape_grad(i, q);
                  for (unsigned int d = 0; d < dim; ++d)
                    gradients[d * n + i] = gradient[d];
                }
              for (unsigned int d = 0; d < dim; ++d)
                {
                  const double *g = &gradients[d * n];
                  for (unsigned int i = 0; i < n; ++i)
                    {
                      const double factor = weight * g[i];
                      double *row = &sums[i * n];
                      for (unsigned int j = 0; j < n; ++j)
                        row[j] += factor * g[j];
                    }
                }
              if (Exact::has_source)
                {
                  const double source = weight * Exact::source(values.quadrature_point(q));
                  for (unsigned int i = 0; i < n; ++i)
                    cell_rhs[i] += source * values.shape_value(i, q);
                }
            }
          std::copy(sums.begin(), sums.end(), &cell_matrix(0, 0));
          cell->get_dof_indices(dofs);
          constraints.distribute_local_to_global(cell_matrix, cell_rhs, dofs, matrix, rhs);
        }
      matrix.compress(VectorOperation::add);
      rhs.compress(VectorOperation::add);
    });
  }

  void solve()
  {
    PETScWrappers::PreconditionBoomerAMG preconditioner;
    clock("pc", [&] {
      PETScWrappers::PreconditionBoomerAMG::AdditionalData data;
      data.symmetric_operator = true;
      data.strong_threshold = dim == 2 ? 0.25 : 0.5;
      data.aggressive_coarsening_num_levels = 1;
      preconditioner.initialize(matrix, data);
    });
    clock("solve", [&] {
      // Rows of constrained unknowns have a diagonal only: the start vector solves them, and the tolerance is
      // relative to the other rows.
      PETScWrappers::MPI::Vector start(owned, comm), free(rhs);
      if (transferred.size() == rhs.size())
        start = transferred;
      for (const auto &line : constraints.get_lines())
        if (owned.is_element(line.index))
          {
            start[line.index] = line.inhomogeneity;
            free[line.index] = 0.;
          }
      start.compress(VectorOperation::insert);
      free.compress(VectorOperation::insert);
      SolverControl control(1000, settings.number("tolerance") * free.l2_norm());
      SolverCG<PETScWrappers::MPI::Vector> cg(control);
      cg.solve(matrix, start, rhs, preconditioner);
      iterations = control.last_step();
      matrix.vmult(free, start);
      free.add(-1., rhs);
      reached = free.l2_norm() / control.tolerance() * settings.number("tolerance");
      constraints.distribute(start);
      solution.reinit(owned, relevant, comm);
      solution = start;
    });
  }

  /// Whether the error is small enough. Only the last step's is on the clock.
  bool measure()
  {
    clock("error", [&] {
      const UpdateFlags flags =
        update_values | update_gradients | update_quadrature_points | update_JxW_values;
      FEValues<dim> plain(mapping, element, QGauss<dim>(degree + 3), flags);
      // Where the gradient is infinite at a vertex, a plain rule finds too little.
      FEValues<dim> fine(mapping, element, QIterated<dim>(QGauss<1>(degree + 4), Exact::singular ? 16 : 1), flags);
      std::vector<double> found;
      std::vector<Tensor<1, dim>> gradients;
      std::array<double, 2> sums = {{0, 0}};
      for (const auto &cell : space.active_cell_iterators())
        {
          if (!cell->is_locally_owned())
            continue;
          bool at_corner = false;
          for (const unsigned int k : cell->vertex_indices())
            at_corner = at_corner || (Exact::singular && cell->vertex(k).norm_square() == 0);
          FEValues<dim> &values = at_corner ? fine : plain;
          values.reinit(cell);
          found.resize(values.n_quadrature_points);
          gradients.resize(values.n_quadrature_points);
          values.get_function_values(solution, found);
          values.get_function_gradients(solution, gradients);
          for (unsigned int q = 0; q < values.n_quadrature_points; ++q)
            {
              const Point<dim> &x = values.quadrature_point(q);
              const double difference = found[q] - exact.Exact::value(x);
              sums[0] += values.JxW(q) * difference * difference;
              sums[1] += values.JxW(q) * (gradients[q] - exact.Exact::gradient(x)).norm_square();
            }
        }
      const double l2 = std::sqrt(Utilities::MPI::sum(sums[0], comm));
      const double h1 = std::sqrt(Utilities::MPI::sum(sums[1], comm));
      steps.push_back({mesh.n_global_active_cells(), space.n_dofs(), -1., l2, h1, iterations});
    });
    const bool done = steps.back().h1 <= settings.number("target");
    if (!done)
      clock.phases["error"] = 0;
    return done;
  }

  void refine()
  {
    Vector<float> indicators(mesh.n_active_cells());
    clock("estimate", [&] {
      KellyErrorEstimator<dim>::estimate(mapping,
                                         space,
                                         QGauss<dim - 1>(degree + 1),
                                         {},
                                         solution,
                                         indicators,
                                         ComponentMask(),
                                         nullptr,
                                         numbers::invalid_unsigned_int,
                                         mesh.locally_owned_subdomain());
      if (settings.number("residual") > 0)
        add_residuals(settings.number("residual"), indicators);
    });
    clock("mark", [&] {
      namespace Marking = parallel::distributed::GridRefinement;
      const double part = settings.number("refine"), undo = settings.number("coarsen");
      const std::string &marking = settings.text("marking");
      if (marking == "dorfler")
        Marking::refine_and_coarsen_fixed_fraction(mesh, indicators, part, undo, VectorTools::L2_norm);
      else if (marking == "sum")
        Marking::refine_and_coarsen_fixed_fraction(mesh, indicators, part, undo, VectorTools::L1_norm);
      else if (marking == "number")
        Marking::refine_and_coarsen_fixed_number(mesh, indicators, part, undo);
      else
        throw std::runtime_error("there is no marking " + marking);
      // p4est's forest is no deeper than this; it stops the program where more is asked for.
      const int deepest = dim == 2 ? 29 : 18;
      if (static_cast<int>(mesh.n_levels()) > deepest)
        for (const auto &cell : mesh.active_cell_iterators_on_level(deepest))
          cell->clear_refine_flag();
    });
    steps.back().estimate = VectorTools::compute_global_error(mesh, [&] {
      Vector<double> wide(indicators.size());
      wide = indicators;
      return wide;
    }(), VectorTools::L2_norm);
    const bool transfer = settings.text("transfer") == "true";
    parallel::distributed::SolutionTransfer<dim, PETScWrappers::MPI::Vector> carried(space);
    clock("refine", [&] {
      mesh.prepare_coarsening_and_refinement();
      if (transfer)
        carried.prepare_for_coarsening_and_refinement(solution);
      mesh.execute_coarsening_and_refinement();
    });
    if (!transfer)
      return;
    clock("space", [&] {
      space.distribute_dofs(element);
      owned = space.locally_owned_dofs();
    });
    clock("refine", [&] {
      transferred.reinit(owned, comm);
      carried.interpolate(transferred);
    });
  }

  /// Adds what is left of the equation inside of each cell, which jumps do not see: it is the larger part at even
  /// degrees.
  void add_residuals(const double weight, Vector<float> &indicators) const
  {
    const QGauss<dim> rule(degree);
    FEValues<dim> values(mapping, element, rule, update_hessians | update_JxW_values | update_quadrature_points);
    std::vector<double> laplacians(rule.size());
    for (const auto &cell : space.active_cell_iterators())
      {
        if (!cell->is_locally_owned())
          continue;
        values.reinit(cell);
        values.get_function_laplacians(solution, laplacians);
        double sum = 0;
        for (unsigned int q = 0; q < rule.size(); ++q)
          {
            const double left = laplacians[q] + Exact::source(values.quadrature_point(q));
            sum += values.JxW(q) * left * left;
          }
        const double size = cell->extent_in_direction(0);
        float &indicator = indicators[cell->active_cell_index()];
        indicator = std::sqrt(indicator * indicator + weight * size * size * sum);
      }
  }

  void write()
  {
    DataOut<dim> out;
    DataOutBase::VtkFlags flags;
    flags.compression_level = DataOutBase::VtkFlags::ZlibCompressionLevel::best_speed;
    flags.write_higher_order_cells = degree > 1;
    out.set_flags(flags);
    out.attach_dof_handler(space);
    out.add_data_vector(solution, "u");
    out.build_patches(mapping, degree);
    out.write_vtu_with_pvtu_record(settings.text("output") + "/", "solution", 0, comm);
  }

  void report() const
  {
    const double memory = Utilities::MPI::sum(peak_memory_mb(), comm);
    if (Utilities::MPI::this_mpi_process(comm) != 0)
      return;
    std::ostringstream line;
    line.precision(10);
    line << "{\"program\": \"deal.II\", \"version\": \"" << DEAL_II_PACKAGE_VERSION
         << "\", \"ranks\": " << Utilities::MPI::n_mpi_processes(comm) << ", \"cells\": " << steps.back().cells
         << ", \"dofs\": " << steps.back().dofs << ", \"method\": \"cg+boomeramg\", \"phases\": {";
    std::string comma;
    for (const auto &[phase, seconds] : clock.phases)
      {
        line << comma << "\"" << phase << "\": " << seconds;
        comma = ", ";
      }
    line << "}, \"memory_mb\": " << memory << ", \"iterations\": " << iterations
         << ", \"converged\": true, \"relative_residual\": " << reached << ", \"error_l2\": " << steps.back().l2
         << ", \"error_h1\": " << steps.back().h1 << ", \"steps\": [";
    comma = "";
    for (const auto &step : steps)
      {
        line << comma << "{\"cells\": " << step.cells << ", \"dofs\": " << step.dofs << ", \"estimate\": ";
        if (step.estimate < 0)
          line << "null";
        else
          line << step.estimate;
        line << ", \"l2\": " << step.l2 << ", \"h1\": " << step.h1 << ", \"iterations\": " << step.iterations << "}";
        comma = ", ";
      }
    std::cout << line.str() << "]}" << std::endl;
  }

  const Settings &settings;
  MPI_Comm comm;
  Clock clock;
  const unsigned int degree;
  parallel::distributed::Triangulation<dim> mesh;
  const MappingCartesian<dim> mapping;
  const FE_Q<dim> element;
  const QGauss<dim> quadrature;
  const Exact exact;
  DoFHandler<dim> space;
  IndexSet owned, relevant;
  AffineConstraints<double> constraints;
  PETScWrappers::MPI::SparseMatrix matrix;
  PETScWrappers::MPI::Vector rhs, solution, transferred;
  unsigned int iterations = 0;
  double reached = 0;
  std::vector<Step> steps;
};

int main(int argc, char **argv)
{
  try
    {
      const Settings settings(argc, argv);
      // One thread a rank.
      Utilities::MPI::MPI_InitFinalize mpi(argc, argv, 1);
      // As dolfinx_peer.py: interpolation truncated to 4 entries a row.
      for (const auto &[key, value] : std::map<std::string, std::string>{
             {"-pc_hypre_boomeramg_coarsen_type", "HMIS"},
             {"-pc_hypre_boomeramg_interp_type", "ext+i"},
             {"-pc_hypre_boomeramg_P_max", "4"}})
        {
          PetscBool given = PETSC_FALSE;
          PetscOptionsHasName(nullptr, nullptr, key.c_str(), &given);
          if (!given)
            PetscOptionsSetValue(nullptr, key.c_str(), value.c_str());
        }
      if (settings.text("problem") == "l-shape")
        Loop<2, Corner<2>>(settings, MPI_COMM_WORLD).run();
      else if (settings.text("problem") == "front")
        Loop<3, Front<3>>(settings, MPI_COMM_WORLD).run();
      else
        throw std::runtime_error("there is no problem " + settings.text("problem"));
    }
  catch (const std::exception &error)
    {
      std::cerr << error.what() << std::endl;
      int started = 0;
      MPI_Initialized(&started);
      if (started)
        MPI_Abort(MPI_COMM_WORLD, 1);
      return 1;
    }
  return 0;
}
