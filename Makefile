# memopt - GNU make. `make help` lists the targets; everything built lands under build/.

DEMO_STEPS ?= 30
demo_command = OMP_WAIT_POLICY=passive build/train_gpt --text README.md $(wildcard docs/*.md src/*/*.[ch] examples/*.c) \
    --batch 16 --steps $(DEMO_STEPS) --budget 25% --compare --sample 200 --report build/demo

# `make deps X` installs, then starts over for X, also with -j: the rest of this file looks at the
# compiler that deps may have brought.
after_deps := $(filter-out deps,$(MAKECMDGOALS))
ifneq ($(and $(filter deps,$(MAKECMDGOALS)),$(after_deps)),)

.PHONY: deps then $(after_deps)
$(after_deps): then ; @:
then: deps ; +@$(MAKE) --no-print-directory $(after_deps)
deps: ; @tools/deps.sh

else

PREFIX  ?= /usr/local
CFLAGS  ?= -O3
WERROR  ?= 0
V       ?= 0
OPENMP  ?= $(shell echo 'int main(void){return 0;}' | \
    $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)
OPENMP  := $(OPENMP)
# The flag that links OpenCL, empty where it is not installed: the rest builds without it.
OPENCL  ?= $(shell printf '\043include <CL/cl.h>\nint main(void){return clGetPlatformIDs(0,0,0);}' | \
    $(CC) -DCL_TARGET_OPENCL_VERSION=120 $(CPPFLAGS) -x c - -o /dev/null $(LDFLAGS) -lOpenCL \
    2>/dev/null && echo -lOpenCL)
OPENCL  := $(OPENCL)
# The same for CLBlast, which may compute the matrix products of memopt_cl.
CLBLAST ?= $(if $(OPENCL),$(shell printf '\043include <clblast_c.h>\nint main(void){return CLBlastClearCache();}' | \
    $(CC) -DCL_TARGET_OPENCL_VERSION=120 $(CPPFLAGS) -x c - -o /dev/null $(LDFLAGS) -lclblast $(OPENCL) \
    2>/dev/null && echo -lclblast))
CLBLAST := $(CLBLAST)
LIBS     = -lm -ldl -lpthread
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wstrict-prototypes

layers   = base memory numeric train plan store advise
include  = -Isrc $(layers:%=-Isrc/%)
clblast  = $(if $(CLBLAST),-DMEMOPT_CL_CLBLAST)
cl       = $(include) -Ibuild/cl -Isrc/cl $(clblast)
common   = $(WARNINGS) $(if $(filter 1,$(WERROR)),-Werror) -MMD -MP $(CPPFLAGS)
library  = -std=c99 -Wconversion $(common)
program  = -std=c11 -D_DEFAULT_SOURCE $(if $(OPENCL),,-DNO_OPENCL) $(common)

# V=1 shows the commands instead of one short line each.
Q    = $(if $(filter 1,$(V)),,@)
show = @$(if $(filter 1,$(V)),:,printf '  %-5s %s\n' $(1) $@)

cl_examples = $(patsubst examples/%.c,build/examples/%,$(wildcard examples/*_cl_*.c))
examples = $(filter-out $(if $(OPENCL),,$(cl_examples)),\
    $(patsubst examples/%.c,build/examples/%,$(wildcard examples/*.c)))
fuzzers  = $(patsubst fuzz/%.c,build/fuzz/%,$(wildcard fuzz/*.c))
programs = $(if $(wildcard examples/train_gpt/*.c),build/train_gpt) \
    $(if $(wildcard tools/memopt/*.c),build/memopt) $(if $(wildcard bench/*.c),build/memopt-bench)

.PHONY: all help headers deps demo test build-tests build-cli-tests check cl-check cl-vendors format bench fuzz interop \
    install clean force
.DELETE_ON_ERROR:
.SECONDARY:

all: headers build/memopt.o $(if $(OPENCL),build/memopt_cl.o) $(programs) $(examples)

help:
	@echo 'make            root headers, programs, examples'
	@echo 'make deps       install what is missing (Debian, Ubuntu), elsewhere say what is'
	@echo 'make headers    memopt.h and memopt_cl.h from src/'
	@echo 'make demo       train a small GPT plainly and under a budget, side by side'
	@echo 'make test       all tests in all variants, and the gates; TESTS="arena pool" for a few'
	@echo 'make check      the gates alone; GATES="symbols format" for a few'
	@echo 'make cl-check   the kernels against the compilers of AMD, NVIDIA and Intel, without a device'
	@echo 'make cl-vendors some of the tests on OpenCL runtimes that PyPI has, in build/'
	@echo 'make format     clang-format over the sources'
	@echo 'make bench      build and run the benchmarks'
	@echo 'make fuzz       build the fuzzers (clang)'
	@echo 'make interop    files both ways between memopt and the Python packages safetensors and gguf'
	@echo 'make install    header, pkg-config file, CMake package, programs; PREFIX= DESTDIR='
	@echo 'make clean      remove build/'
	@echo 'Variables: CC CXX CFLAGS CPPFLAGS LDFLAGS OPENMP= OPENCL= CLBLAST= (off) WERROR=1 V=1'

deps:
	@tools/deps.sh

clean:
	rm -rf build

# build/flags changes when the flags do; every object depends on it.
flags = $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(OPENMP) $(OPENCL) $(CLBLAST) $(WARNINGS) $(WERROR)
build/flags: force
	@mkdir -p $(@D)
	@echo '$(flags)' | cmp -s - $@ || echo '$(flags)' > $@

# ---- the joined header -----------------------------------------------------------------------

sources = $(wildcard src/*.[ch] $(layers:%=src/%/*.[ch]) $(layers:%=src/%/*.inc))

cl_sources = $(wildcard src/cl/*.[ch] src/cl/kernels/*)

headers: memopt.h memopt_cl.h

build/amalgamate: tools/amalgamate.c
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(program) -O1 -o $@ $<

memopt.h: build/amalgamate $(sources) $(wildcard examples/01_quickstart.c)
	$(call show,JOIN)
	$(Q)build/amalgamate $(include:-I%=-I %) src/memopt.h src/memopt.c $@

memopt_cl.h: build/amalgamate $(sources) $(cl_sources)
	$(call show,JOIN)
	$(Q)build/amalgamate $(include:-I%=-I %) -I src/cl -I src/cl/kernels -k memopt.h \
	    src/memopt_cl.h src/memopt_cl.c $@

# ---- library, programs -----------------------------------------------------------------------

build/memopt.o: src/memopt.c build/flags
	$(call show,CC)
	$(Q)$(CC) $(library) $(CFLAGS) $(OPENMP) $(include) -c -o $@ $<

# Compiled from src/, the kernels' lines come from here; the joined header holds them itself.
build/cl/mo_cl_kernels.inc: src/cl/kernels/mo_cl_kernels.inc $(cl_sources)
	@mkdir -p $(@D)
	@awk '$$2 == "@embed-lines" { while ((getline line < $$3) > 0) { \
	    gsub(/[\\"]/, "\\\\&", line); print "\"" line "\\n\"," } next } { print }' $< > $@

build/memopt_cl.o: src/memopt_cl.c build/cl/mo_cl_kernels.inc build/flags
	$(call show,CC)
	$(Q)$(CC) $(library) $(CFLAGS) $(OPENMP) $(cl) -c -o $@ $<

build/obj/%.o: %.c build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(program) $(CFLAGS) $(OPENMP) $(cl) -c -o $@ $<

objects = $(patsubst %.c,build/obj/%.o,$(wildcard $(1)))
build/train_gpt: $(call objects,examples/train_gpt/*.c)
build/memopt: $(call objects,tools/memopt/*.c)
build/memopt-bench: $(call objects,bench/*.c)
$(examples): build/examples/%: build/obj/examples/%.o

cl_programs = $(cl_examples) $(if $(OPENCL),build/train_gpt build/memopt-bench)
$(cl_programs): build/memopt_cl.o
$(cl_programs): LIBS += $(OPENCL) $(CLBLAST)

$(programs) $(examples): build/memopt.o
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) $(CFLAGS) $(OPENMP) -o $@ $^ $(LDFLAGS) $(LIBS)

demo: build/train_gpt
	@$(demo_command)

bench: build/memopt-bench
	build/memopt-bench

fuzz: $(fuzzers)

build/fuzz/%: fuzz/%.c src/memopt.c $(sources) $(wildcard tools/memopt/*.[ch] fuzz/*.h)
	@mkdir -p $(@D)
	$(call show,FUZZ)
	$(Q)clang -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZ_NO_MAIN $(include) -o $@ $< \
	    src/memopt.c $(LIBS)

# ---- tests -----------------------------------------------------------------------------------

TESTS ?= $(patsubst tests/test_%.c,%,$(wildcard tests/test_*.c))
GATES ?=
# Those that run against src/ without sanitizers.
PLAIN_TESTS ?= $(TESTS)
TSAN_TESTS = base pool queue page stream loader

# A variant builds the library and every test in one way, in build/test/SIDE-FLAGS: against src/ or
# against the joined header, with the flags plain, asan (with UBSan) or tsan.
# Sanitizers make gcc warn of what cannot happen, so there no warning is an error.
sanitize    = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -Wno-error
flags.plain = $(CFLAGS) $(OPENMP)
flags.asan  = $(sanitize) -fsanitize=address,undefined $(OPENMP)
flags.tsan  = $(sanitize) -fsanitize=thread
test.plain  = -O1 -g $(OPENMP)
test.asan   = $(flags.asan)
test.tsan   = $(flags.tsan)
side.src    = $(cl)
side.header = -I.

build/test/src-plain/memopt_cl.o: build/memopt_cl.o
	@mkdir -p $(@D)
	@cp $< $@

build/test/src-%/memopt_cl.o: src/memopt_cl.c build/cl/mo_cl_kernels.inc build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(library) $(flags.$*) $(side.src) -c -o $@ $<

build/test/header-%/memopt_cl.o: memopt_cl.c memopt_cl.h memopt.h build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(library) $(flags.$*) $(side.header) -c -o $@ $<

build/test/src-plain/memopt.o: build/memopt.o
	@mkdir -p $(@D)
	@cp $< $@

build/test/src-%/memopt.o: src/memopt.c build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(library) $(flags.$*) $(side.src) -c -o $@ $<

build/test/header-%/memopt.o: memopt.c memopt.h build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(library) $(flags.$*) $(side.header) -c -o $@ $<

# A test may ask for linker flags in lines `// LDFLAGS: ...`.
test_ldflags = `sed -n 's,^// LDFLAGS: ,,p' tests/test_$*.c`

# $(call variant,SIDE,FLAGS,TESTS)
define variant
build/test/$(1)-$(2)/test_%.o: tests/test_%.c build/flags | memopt.h memopt_cl.h
	@mkdir -p $$(@D); rm -f $$(@:.o=)
	$$(call show,CC)
	$$(Q)$$(CC) $$(program) $$(test.$(2)) $$(side.$(1)) -c -o $$@ $$<

build/test/$(1)-$(2)/test_%: build/test/$(1)-$(2)/test_%.o build/test/$(1)-$(2)/memopt.o
	$$(call show,LINK)
	$$(Q)$$(CC) $$(flags.$(2)) -o $$@ $$^ $$(LDFLAGS) $$(test_ldflags) -lcmocka $$(LIBS)

build-tests: $(3:%=build/test/$(1)-$(2)/test_%)

# Without OpenCL the tests of memopt_cl are built to be skipped.
ifneq ($(and $(OPENCL),$(filter cl cl_%,$(3))),)
$(patsubst %,build/test/$(1)-$(2)/test_%,$(filter cl cl_%,$(3))): build/test/$(1)-$(2)/memopt_cl.o
$(patsubst %,build/test/$(1)-$(2)/test_%,$(filter cl cl_%,$(3))): LIBS += $(OPENCL) $(CLBLAST)
endif
endef
$(eval $(call variant,src,plain,$(PLAIN_TESTS)))
$(eval $(call variant,src,asan,$(TESTS)))
$(eval $(call variant,src,tsan,$(filter $(TSAN_TESTS),$(TESTS))))
$(eval $(call variant,header,plain,$(TESTS)))

# What the tests of memopt_cl put between the loader and the driver.
build/test/cl_layer.so: tests/cl_layer.c tests/cl_layer.h build/flags
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) $(filter-out -MMD -MP,$(program)) -O1 -g -fPIC -fvisibility=hidden -shared -o $@ $< \
	    $(LDFLAGS) -lpthread
ifneq ($(and $(OPENCL),$(filter cl cl_%,$(TESTS))),)
build-tests: build/test/cl_layer.so
endif

# Every set of kernels against the scalar one.
build/test/isa_agree: build/obj/tests/isa_agree.o build/memopt.o
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) $(CFLAGS) $(OPENMP) -o $@ $^ $(LDFLAGS) $(LIBS)

# The programs once more with sanitizers, for tests/cli_*.sh.
cli_programs = train_gpt memopt
build-cli-tests: $(cli_programs:%=build/%) $(cli_programs:%=build/test/src-asan/%)

build/test/src-asan/obj/%.o: %.c build/flags
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(program) $(flags.asan) $(cl) -c -o $@ $<

asan_objects = $(patsubst %.c,build/test/src-asan/obj/%.o,$(wildcard $(1)))
build/test/src-asan/train_gpt: $(call asan_objects,examples/train_gpt/*.c)
build/test/src-asan/memopt: $(call asan_objects,tools/memopt/*.c)

ifneq ($(OPENCL),)
build/test/src-asan/train_gpt: build/test/src-asan/memopt_cl.o
build/test/src-asan/train_gpt: LIBS += $(OPENCL) $(CLBLAST)
endif

$(cli_programs:%=build/test/src-asan/%): build/test/src-asan/memopt.o
	$(call show,LINK)
	$(Q)$(CC) $(flags.asan) -o $@ $^ $(LDFLAGS) $(LIBS)

# run.sh calls make again for build-tests, so that what does not build is counted as failed.
test:
	+@MAKE='$(MAKE)' TESTS='$(TESTS)' TSAN_TESTS='$(TSAN_TESTS)' \
	    ONLY_TESTS=$(if $(filter file,$(origin TESTS)),,1) tests/run.sh

check: headers build/memopt.o build/cl/mo_cl_kernels.inc
	@CC='$(CC)' CXX='$(CXX)' tools/gates.sh $(GATES)

cl-check:
	@tools/cl_check.sh

cl-vendors: build/test/src-plain/test_cl build/test/src-plain/test_cl_accum
	@tools/cl_vendors.sh

build/interop/interop: build/obj/tests/interop/interop.o build/memopt.o
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) $(CFLAGS) $(OPENMP) -o $@ $^ $(LDFLAGS) $(LIBS)

interop: build/interop/interop
	@tests/interop/run.sh

format:
	clang-format -i $(wildcard $(foreach d,src src/* tools tools/* tests tests/interop examples examples/* bench fuzz,\
	    $(d)/*.[ch]))

# ---- install ---------------------------------------------------------------------------------

version = $(shell sed -n 's/^.define MEMOPT_VERSION_[MP][A-Z]* //p' src/base/mo_base.h | paste -sd.)
fill    = sed -e 's|@VERSION@|$(version)|' -e 's|@PREFIX@|$(PREFIX)|'
to      = $(DESTDIR)$(PREFIX)

install: headers $(programs)
	install -d $(to)/include $(to)/share/pkgconfig $(to)/share/cmake/memopt
	install -m 644 memopt.h $(wildcard memopt_cl.h memopt_mpi.h) $(to)/include
	$(fill) tools/package/memopt.pc.in > $(to)/share/pkgconfig/memopt.pc
	install -m 644 tools/package/memoptConfig.cmake $(to)/share/cmake/memopt
	$(fill) tools/package/memoptConfigVersion.cmake.in \
	    > $(to)/share/cmake/memopt/memoptConfigVersion.cmake
	$(if $(strip $(programs)),install -d $(to)/bin && install $(programs) $(to)/bin)

-include $(shell find build -name '*.d' 2>/dev/null)

endif
