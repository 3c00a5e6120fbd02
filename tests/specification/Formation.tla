------------------------------ MODULE Formation ------------------------------
(* How nodes without a cluster form one, and only one: trioraft/consensus/formation.py.

   Any node may promise any formation that it is a member of, at any time, asked or not; so who proposes, the
   volatile round before, and BOOTSTRAP_EXPECT are left out: they only forbid. A node changes what it has in
   memory, and what it says about that leaves when the disk has it, which gets it in order and some time later. Messages
   are never taken away, so that they arrive late, twice, in any order or not at all. Left out, too: abandon-formation,
   which is an operator's word. *)
EXTENDS FiniteSets, Naturals, Sequences, TLC

CONSTANTS Node, Formation,
          None,      \* no formation
          NeverMax   \* how many refusals a node keeps

VARIABLES members,   \* of each formation, fixed from the start
          memory,    \* of each node: [cluster, promised: a formation or None, never: formations it refused]
          disk,      \* the same, as a restart finds it
          held,      \* of each node: what its disk does not have yet, in order, each with what is said about it
          sent       \* messages that have left: [says, formation, from]

vars == <<members, memory, disk, held, sent>>

Unformed == [cluster |-> None, promised |-> None, never |-> {}]
Message(says, f, n) == [says |-> says, formation |-> f, from |-> n]

Init == /\ members \in [Formation -> {m \in SUBSET Node : Cardinality(m) >= 2}]
        /\ memory = [n \in Node |-> Unformed]
        /\ disk = [n \in Node |-> Unformed]
        /\ held = [n \in Node |-> <<>>]
        /\ sent = {}

(* Said once is enough, for no message is ever taken away. *)
Held(n) == {held[n][i].message : i \in DOMAIN held[n]}
Become(n, state, says, f) == /\ Message(says, f, n) \notin sent \union Held(n)
                             /\ memory' = [memory EXCEPT ![n] = state]
                             /\ held' = [held EXCEPT ![n] = Append(@, [state |-> state, message |-> Message(says, f, n)])]
                             /\ UNCHANGED <<members, disk, sent>>

Formed(n) == memory[n].cluster # None
Free(n) == ~Formed(n) /\ memory[n].promised = None
Full(n) == Cardinality(memory[n].never) >= NeverMax

------------------------------------------------------------------------------

(* One formation at a time. To ask others for their promise is to say this, too. *)
Promise(n, f) == /\ n \in members[f] /\ Free(n) /\ f \notin memory[n].never
                 /\ Become(n, [memory[n] EXCEPT !.promised = f], "promised", f)

(* A node refuses, for ever, what it has not promised; a member of a cluster does by being one. *)
Refuse(n, f) == /\ n \in members[f] /\ memory[n].promised # f /\ memory[n].cluster # f
                /\ Formed(n) \/ f \in memory[n].never \/ ~Full(n)
                /\ Become(n, [memory[n] EXCEPT !.never = IF Formed(n) THEN {} ELSE @ \union {f}], "never", f)

(* One refusal ends a formation for all. Who cannot keep one refusal more forgets none for it: that the first who
   refused will never promise is enough. *)
Drop(n, m) == LET f == memory[n].promised
                  never == IF Full(n) THEN memory[n].never ELSE memory[n].never \union {f}
              IN /\ f # None /\ m \in members[f] /\ Message("never", f, m) \in sent
                 /\ Become(n, [Unformed EXCEPT !.never = never], "never", f)

(* Every other member has promised, or one of them is known to be a member of the cluster. *)
Stand(n) == LET f == memory[n].promised
                Said(m, says) == Message(says, f, m) \in sent
            IN /\ f # None
               /\ \/ \A m \in members[f] \ {n} : Said(m, "promised")
                  \/ \E m \in members[f] : Said(m, "member")
               /\ Become(n, [Unformed EXCEPT !.cluster = f], "member", f)

(* A node that is bound to nothing is taken into a cluster by its leader. *)
Join(n, f) == /\ Free(n) /\ f \notin memory[n].never
              /\ \E m \in Node : Message("member", f, m) \in sent
              /\ Become(n, [Unformed EXCEPT !.cluster = f], "member", f)

(* The first so many changes are on disk. *)
Write(n, many) == /\ disk' = [disk EXCEPT ![n] = held[n][many].state]
                  /\ sent' = sent \union {held[n][i].message : i \in 1 .. many}
                  /\ held' = [held EXCEPT ![n] = SubSeq(@, many + 1, Len(@))]
                  /\ UNCHANGED <<members, memory>>

Restart(n) == /\ memory' = [memory EXCEPT ![n] = disk[n]]
              /\ held' = [held EXCEPT ![n] = <<>>]
              /\ UNCHANGED <<members, disk, sent>>

Next == \E n \in Node : \/ \E f \in Formation : Promise(n, f) \/ Refuse(n, f) \/ Join(n, f)
                        \/ \E m \in Node : Drop(n, m)
                        \/ \E many \in DOMAIN held[n] : Write(n, many)
                        \/ Stand(n) \/ Restart(n)

Spec == Init /\ [][Next]_vars

------------------------------------------------------------------------------

(* Nodes are alike, and so are formations. *)
Symmetry == Permutations(Node) \union Permutations(Formation)

Stands(f) == \A n \in members[f] : Message("promised", f, n) \in sent

TypeOK == /\ memory \in [Node -> [cluster : Formation \union {None}, promised : Formation \union {None},
                                  never : SUBSET Formation]]
          /\ \A n \in Node : Cardinality(memory[n].never) <= NeverMax

(* Two formations that share a member never both stand. *)
OneFormation == \A f, g \in Formation : Stands(f) /\ Stands(g) /\ f # g => members[f] \intersect members[g] = {}

(* A promise holds across a restart: whoever promised what stands is a member of it, or will be. *)
PromiseKept == \A f \in Formation : Stands(f) => \A n \in members[f] : f \in {disk[n].promised, disk[n].cluster}

(* Whoever is a member is one of a formation that stands. *)
MemberOfStanding == \A n \in Node : disk[n].cluster # None => Stands(disk[n].cluster)
==============================================================================
