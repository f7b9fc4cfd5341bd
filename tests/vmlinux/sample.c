/* Types for the tests of memshell.vmlinux; the assertions are the numbers that the tests expect. */
struct list_head { struct list_head *next, *prev; };
typedef struct { int counter; } atomic_t;
struct only_declared;

struct page {
	unsigned long flags;
	union {
		struct { struct list_head lru; void *mapping; unsigned long index; };
		unsigned long compound_head;
		struct only_declared *owner;
	};
	unsigned long private;
	atomic_t _mapcount;
	atomic_t _refcount;
	unsigned long memcg_data;
} __attribute__((aligned(16)));

struct bits { unsigned int low : 3, middle : 9, high : 20; };
struct grid { short cells[3][4]; char tail[]; };
typedef struct { struct list_head link; } alias_t;
enum pageflags { PG_locked, PG_negative = -7, __NR_PAGEFLAGS = 24 };

_Static_assert(sizeof(struct page) == 64, "page");
_Static_assert(__builtin_offsetof(struct page, lru) == 8, "lru");
_Static_assert(__builtin_offsetof(struct page, _refcount) == 52, "_refcount");
_Static_assert(sizeof(struct grid) == 24, "grid");

struct page one_page;
struct bits some_bits;
struct grid a_grid;
alias_t an_alias;
enum pageflags a_flag = PG_negative;

int start(void) { return (int)sizeof(one_page) + a_flag; }
