--------------------------- MODULE TraceFormation ---------------------------
(* Whether a recorded trace is a behaviour of Formation: each line must be steps of it, from what the lines before have
   led to, and the node must be afterwards what the line says. tests/specification/trace_formation.py writes the module
   TraceData from the recorded lines, and takes apart what a node did at once, as to promise and to stand. *)
EXTENDS TraceData  \* which extends Formation

VARIABLE line      \* the next line

Of == TraceLines[line]
TraceInit == Init /\ members = Members /\ line = 1

(* What came must have been sent; what is sent must have been said, if only now. *)
Known(message, known) == \E says \in message.says : Message(says, message.formation, message.from) \in known
Acts(n, f) == CASE Of.action = "Promise" -> Promise(n, f)
                [] Of.action = "Refuse" -> Refuse(n, f)
                [] Of.action = "Drop" -> \E m \in Node : Drop(n, m)
                [] Of.action = "Stand" -> Stand(n)
                [] Of.action = "Join" -> Join(n, f)
                [] Of.action = "Written" -> \/ disk[n] = Of.on_disk /\ UNCHANGED vars
                                            \/ \E many \in DOMAIN held[n] : Write(n, many) /\ disk'[n] = Of.on_disk
                [] Of.action = "Restart" -> \/ disk[n] = Of.on_disk /\ Restart(n)
                                            \/ \E many \in DOMAIN held[n] :  \* what the node did not know to be there
                                                 /\ held[n][many].state = Of.on_disk
                                                 /\ disk' = [disk EXCEPT ![n] = Of.on_disk]
                                                 /\ memory' = [memory EXCEPT ![n] = Of.on_disk]
                                                 /\ sent' = sent \union {held[n][i].message : i \in 1 .. many}
                                                 /\ held' = [held EXCEPT ![n] = <<>>]
                                                 /\ UNCHANGED members
                [] OTHER -> UNCHANGED vars

TraceNext == /\ line <= Len(TraceLines)
             /\ PrintT(<<"line", line>>)
             /\ \A message \in Of.heard : Known(message, sent)
             /\ Acts(Of.node, Of.formation)
             /\ \E n \in {Of.node}, of \in {Of} : /\ memory'[n] = of.state
                                                  /\ \A message \in of.said : Known(message, sent' \union Held(n)')
             /\ line' = line + 1
TraceSpec == TraceInit /\ [][TraceNext]_<<vars, line>>

(* The end is reached by a trace that is a behaviour: TLC tells that this does not hold. *)
NotAccepted == line <= Len(TraceLines)
==============================================================================
